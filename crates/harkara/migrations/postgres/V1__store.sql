
-- Behind the store's first migration, on Postgres alone.

-- Given out in whatever order transactions ask, which is not the order in which they become visible.
create sequence event_positions;

-- Where a table has no number of its own for its rows, the index has to have it.
drop index events_by_merchant;
create index events_by_merchant on events (merchant, position);

-- What is packed already is not packed again.
alter table event_bodies alter column body set storage external;
alter table orders alter column doc set storage external;
alter table attempts alter column answer set storage external;

-- Settled once after they are born, mostly within the second: room on the page spares the indexes whose
-- columns have not changed.
alter table deliveries set (fillfactor = 70);
