//! A command with the thing it is for: what the write path carries out and what can be scheduled.

use serde::{Deserialize, Serialize};

use crate::id::{MandateId, NotificationRef, OrderId};
use crate::mandate::MandateCommand;
use crate::notification::NotificationCommand;
use crate::order::OrderCommand;

/// Something that a merchant, a gateway or Harkara itself wants done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    Order(OrderId, OrderCommand),
    Mandate(MandateId, MandateCommand),
    Notification(NotificationRef, NotificationCommand),
}
