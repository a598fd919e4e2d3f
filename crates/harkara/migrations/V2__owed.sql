-- What an endpoint was to be told and was not, though nothing tries any more: deliveries_lost without what
-- was withheld, of which there may be far more and which nobody is owed. The newest are found first.
create index deliveries_owed on deliveries (endpoint, delivery)
    where kind = 'event' and (state = 'exhausted' or state = 'withdrawn');
