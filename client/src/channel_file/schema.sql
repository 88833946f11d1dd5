-- Format 5. What is not known yet is NULL.

-- One row per channel.
CREATE TABLE channel (
    outpoint         TEXT    PRIMARY KEY, -- "txid:vout" of the contract
    origin           TEXT    NOT NULL,    -- scheme, host and port of the server
    secret_key       BLOB    NOT NULL,    -- of C
    stage            TEXT    NOT NULL,    -- 'funded', 'held', 'open' or 'closing'
    network          TEXT    NOT NULL,
    kind             TEXT    NOT NULL,    -- 'refund' or 'cltv'
    gateway_key      BLOB    NOT NULL,    -- S
    expiry           INTEGER NOT NULL,    -- T, Unix seconds
    capacity         INTEGER NOT NULL,    -- sat
    payout           BLOB    NOT NULL,    -- output script of the change and the refund
    first_payment    INTEGER NOT NULL,    -- sat
    contract         BLOB,                -- the transaction
    refund_signature BLOB,                -- the gateway's half, for 'refund' contracts
    paid             INTEGER,             -- sat
    signature        BLOB,                -- over paid
    spent            INTEGER,             -- msat
    pass             BLOB,
    settlement       TEXT,                -- txid
    known            INTEGER,             -- msat: what is owed besides answers that run, while any do
    shown            INTEGER NOT NULL DEFAULT 0 -- 1 once its first payment was signed to show it, 2
                                          -- once it was refused, unless its payment came back
) STRICT;
