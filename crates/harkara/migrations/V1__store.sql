-- The whole store. Columns are text and bigint (moments in microseconds, money in minor units, truth
-- as 0 and 1), bytes only for event bodies, so that the same text suits PostgreSQL once
-- `without rowid` (SQLite's clustering) is taken off and `blob` reads `bytea`. Keys start with the
-- merchant, so that one merchant's rows lie together and can move together.

-- Numbers about the store itself: `epoch` counts its starts.
create table counters (
    name text not null primary key,
    value bigint not null
) without rowid;

create table merchants (
    merchant_id text not null primary key,
    doc text not null,
    version bigint not null,
    created_at bigint not null
) without rowid;

-- A platform key belongs to merchant ''.
create table api_keys (
    merchant_id text not null,
    key_id text not null,
    hash text not null,
    doc text not null,
    created_at bigint not null,
    revoked_at bigint,
    primary key (merchant_id, key_id)
) without rowid;
create unique index api_keys_by_key_id on api_keys (key_id);

-- state: active, paused, disabled, deleted. The state in `doc` is never read. `health` is that of an
-- endpoint that is not well; while its breaker is open, nothing is born claimed.
create table endpoints (
    merchant_id text not null,
    endpoint_id text not null,
    doc text not null,
    version bigint not null,
    state text not null,
    state_reason text,
    state_at bigint,
    rate_per_second bigint,
    health text,
    breaker_open bigint not null default 0,
    created_at bigint not null,
    primary key (merchant_id, endpoint_id)
) without rowid;

-- What merchants are told about their endpoints.
create table operational_events (
    merchant_id text not null,
    position bigint not null,
    endpoint_id text not null,
    kind text not null,
    sentence text not null,
    created_at bigint not null,
    primary key (merchant_id, position)
) without rowid;

-- What frames were made with, for as long as there are any. Every `doc` and `body` that is a blob is
-- a zstd frame that names its dictionary by this number.
create table dictionaries (
    version bigint not null primary key,
    bytes blob not null
) without rowid;

-- origin: own (decided here) or foreign (a snapshot of somebody else's ledger, which has no
-- internal id and no amount of ours). `order_key` is `order_id` in lower case. An own order has its
-- document here; the content of a foreign one is in the body of the event at `position`.
create table orders (
    merchant_id text not null,
    order_key text not null,
    order_id text not null,
    internal_id text,
    doc blob,
    position bigint,
    version bigint not null,
    origin text not null,
    status text not null,
    amount_minor bigint,
    currency text,
    customer_id text,
    created_at bigint not null,
    updated_at bigint not null,
    primary key (merchant_id, order_key)
);
create unique index orders_by_internal_id on orders (internal_id);
create index orders_by_age on orders (merchant_id, created_at, order_key);

-- What else an order is found by: its transactions and refunds.
create table order_refs (
    merchant_id text not null,
    kind text not null,
    value text not null,
    order_key text not null,
    primary key (merchant_id, kind, value)
) without rowid;

create table mandates (
    merchant_id text not null,
    mandate_id text not null,
    doc blob,
    position bigint,
    version bigint not null,
    origin text not null,
    status text not null,
    customer_id text,
    order_id text,
    created_at bigint not null,
    primary key (merchant_id, mandate_id)
);
create index mandates_by_customer on mandates (merchant_id, customer_id, created_at);

create table notifications (
    merchant_id text not null,
    object_reference_id text not null,
    doc blob,
    position bigint,
    version bigint not null,
    origin text not null,
    status text not null,
    mandate_id text,
    created_at bigint not null,
    primary key (merchant_id, object_reference_id)
);

-- `position` grows in commit order over all merchants; it is the cursor of the feed.
create table events (
    merchant_id text not null,
    position bigint not null,
    event_id text not null,
    name text not null,
    subject text not null,
    sequence bigint not null,
    transition text not null,
    created_at bigint not null,
    primary key (merchant_id, position)
) without rowid;
create unique index events_by_id on events (merchant_id, event_id);
create unique index events_by_subject on events (merchant_id, subject, sequence);

-- Apart from their events, so that lists never read them.
create table event_bodies (
    merchant_id text not null,
    position bigint not null,
    body blob not null,
    primary key (merchant_id, position)
);

-- One event for one endpoint. Its event's position, subject and sequence are repeated here because
-- order is kept, and bodies are found, without visiting the event.
create table deliveries (
    merchant_id text not null,
    delivery_id text not null,
    endpoint_id text not null,
    event_id text not null,
    position bigint not null,
    subject text not null,
    sequence bigint not null,
    kind text not null,
    order_mode text not null,
    url_override text,
    state text not null,
    reason text,
    waiting_on text,
    overtaking bigint not null,
    attempts bigint not null,
    -- 0 before the first attempt and 1 after it: fresh deliveries are claimed before backlog.
    retried bigint not null,
    due_at bigint,
    fence bigint not null,
    node bigint not null,
    lease_until bigint not null,
    created_at bigint not null,
    settled_at bigint,
    primary key (merchant_id, delivery_id)
) without rowid;
create index deliveries_of_event on deliveries (merchant_id, event_id);
create index deliveries_due on deliveries (merchant_id, endpoint_id, retried, due_at, position)
    where state = 'pending';
create index deliveries_open on deliveries (merchant_id, subject, endpoint_id, sequence)
    where kind = 'event' and state in ('pending', 'waiting');
create index deliveries_waiting on deliveries (merchant_id, waiting_on)
    where state = 'waiting';

-- `late`: its claim had been taken over by the time it was settled.
create table attempts (
    merchant_id text not null,
    delivery_id text not null,
    n bigint not null,
    started_at bigint not null,
    duration_us bigint not null,
    status bigint,
    failure text,
    doc text not null,
    verdict text not null,
    retry_at bigint,
    late bigint not null,
    primary key (merchant_id, delivery_id, n)
) without rowid;

create table idempotency_keys (
    merchant_id text not null,
    key text not null,
    request_hash text not null,
    response text not null,
    created_at bigint not null,
    primary key (merchant_id, key)
);

create table scheduled_outcomes (
    merchant_id text not null,
    id text not null,
    due_at bigint not null,
    doc text not null,
    primary key (merchant_id, id)
) without rowid;
create index scheduled_outcomes_due on scheduled_outcomes (due_at);

-- A job sends the events of one endpoint again, in the order of their positions: `cursor` is the last
-- one it has looked at, `last_position` the newest one when it was made. Its deliveries are found by
-- their ids, which begin with the moment that the job's own id begins with.
create table replay_jobs (
    merchant_id text not null,
    job_id text not null,
    -- What was asked for.
    doc text not null,
    matched bigint not null,
    last_position bigint not null,
    cursor bigint not null,
    replayed bigint not null,
    skipped_version bigint not null,
    skipped_switch bigint not null,
    skipped_delivered bigint not null,
    state text not null,
    reason text,
    created_at bigint not null,
    changed_at bigint not null,
    primary key (merchant_id, job_id)
) without rowid;
create index replay_jobs_running on replay_jobs (merchant_id, job_id) where state = 'running';

-- What an endpoint never got, which is what replays are mostly about. Nothing that is delivered is
-- ever in it.
create index deliveries_lost on deliveries (merchant_id, endpoint_id, position)
    where kind = 'event' and state in ('exhausted', 'withdrawn', 'withheld');
