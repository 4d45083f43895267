-- The double-entry ledger. Amounts are micro-credits. Transfers are append-only: each debits one account and credits
-- another. `posted` and `held` of an account are kept beside them, under the account's row lock, so that a hold is
-- decided without reading history; `gfe ledger verify` recomputes them from the transfers.
CREATE TABLE ledger_accounts (
  id         text PRIMARY KEY,
  -- consumer: never below zero. system: may be negative, and keeps no running balance, because every batch of every
  -- hub would wait for its row: its balance is the sum of its transfers.
  kind       text NOT NULL CHECK (kind IN ('consumer', 'system')),
  posted     bigint NOT NULL DEFAULT 0,
  held       bigint NOT NULL DEFAULT 0 CHECK (held >= 0),
  created_at timestamptz NOT NULL DEFAULT now(),
  CHECK (kind = 'system' OR posted >= held)
);

CREATE FUNCTION ledger_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END $$;
CREATE TRIGGER ledger_accounts_stay BEFORE DELETE OR TRUNCATE OR UPDATE OF id, kind ON ledger_accounts
  FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();

-- No foreign keys: whoever writes here has locked the accounts and seen that they exist, accounts stay for ever, and
-- the five checks a job would otherwise cost a quarter of its time. Verification looks for strays.
CREATE TABLE ledger_transfers (
  seq        bigint GENERATED ALWAYS AS IDENTITY,
  id         text PRIMARY KEY,
  debit      text NOT NULL,
  credit     text NOT NULL,
  amount     bigint NOT NULL CHECK (amount > 0),
  code       text NOT NULL,
  reference  text,
  hold_id    text,
  created_at timestamptz NOT NULL DEFAULT now(),
  CHECK (debit <> credit)
);
CREATE INDEX ledger_transfers_debit ON ledger_transfers (debit, seq DESC);
CREATE INDEX ledger_transfers_credit ON ledger_transfers (credit, seq DESC);

CREATE TRIGGER ledger_transfers_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_transfers
  FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();

CREATE TABLE ledger_holds (
  id          text PRIMARY KEY,
  account     text NOT NULL,
  budget      text,
  amount      bigint NOT NULL CHECK (amount >= 0),
  state       text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'settled', 'voided', 'expired')),
  settled     bigint NOT NULL DEFAULT 0 CHECK (settled BETWEEN 0 AND amount),
  reason      text,
  expires_at  timestamptz NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT now(),
  resolved_at timestamptz
);
-- Without these the planner takes the open holds for one row and scans all that ever were.
CREATE INDEX ledger_holds_open_expiry ON ledger_holds (expires_at) WHERE state = 'open';
CREATE INDEX ledger_holds_open_account ON ledger_holds (account) WHERE state = 'open';

-- A budget is a bound on what may be spent through it, not money: it has no entries.
CREATE TABLE ledger_budgets (
  id          text PRIMARY KEY,
  limit_micro bigint NOT NULL CHECK (limit_micro >= 0),
  spent       bigint NOT NULL DEFAULT 0 CHECK (spent >= 0),
  held        bigint NOT NULL DEFAULT 0 CHECK (held >= 0)
);
