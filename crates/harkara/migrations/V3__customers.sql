-- A customer's orders, found era by era: 512 numbers of subjects each. Customers come in any order, so in an
-- index by customer alone nearly each new order writes a page of its own; here all new orders are in the
-- last era, which is a few pages. docs/decisions/0012 has the figures.
drop index orders_by_customer;
create index orders_by_customer on orders (merchant, (subject / 512), customer_id, created_at)
    where customer_id is not null;
