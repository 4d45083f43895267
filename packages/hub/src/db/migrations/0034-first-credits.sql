-- The first credit of a provider (trust/first-credit.ts): once for a node's key and once for an account, whatever becomes of either.
CREATE TABLE first_credits (
  node_key     text PRIMARY KEY,
  user_id      text NOT NULL UNIQUE,
  amount_micro bigint NOT NULL,
  -- False until the transfer is in the ledger, whose id is made of the account: paying again changes nothing.
  paid         boolean NOT NULL DEFAULT false,
  granted_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX first_credits_granted ON first_credits (granted_at);
CREATE INDEX first_credits_unpaid ON first_credits (node_key) WHERE NOT paid;
