//! Simulated time: a real store, the real dispatcher and rules, a scripted receiver, and a clock
//! that jumps to whatever is due next. Scripts of answers in, timelines out.

mod histories;
mod ladder;
mod order;
mod panics;
mod rotation;
mod world;
