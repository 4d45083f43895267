-- People. Tables and columns are named as better-auth wants them; it fills them.
CREATE TABLE "user" (
  "id"            text PRIMARY KEY,
  "name"          text NOT NULL,
  "email"         text NOT NULL UNIQUE,
  "emailVerified" boolean NOT NULL,
  "image"         text,
  "createdAt"     timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP,
  "updatedAt"     timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP,
  "role"          text NOT NULL DEFAULT 'consumer' CHECK ("role" IN ('consumer', 'operator')),
  -- Set once the ledger has the account and its signup credit: a crash between the two is repaired at the next start.
  "signupGranted" boolean NOT NULL DEFAULT false
);
CREATE INDEX "user_signup_pending" ON "user" ("id") WHERE NOT "signupGranted";

CREATE TABLE "session" (
  "id"        text PRIMARY KEY,
  "expiresAt" timestamptz NOT NULL,
  "token"     text NOT NULL UNIQUE,
  "createdAt" timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP,
  "updatedAt" timestamptz NOT NULL,
  "ipAddress" text,
  "userAgent" text,
  "userId"    text NOT NULL REFERENCES "user" ("id") ON DELETE CASCADE
);
CREATE INDEX "session_userId_idx" ON "session" ("userId");

CREATE TABLE "account" (
  "id"                    text PRIMARY KEY,
  "accountId"             text NOT NULL,
  "providerId"            text NOT NULL,
  "userId"                text NOT NULL REFERENCES "user" ("id") ON DELETE CASCADE,
  "accessToken"           text,
  "refreshToken"          text,
  "idToken"               text,
  "accessTokenExpiresAt"  timestamptz,
  "refreshTokenExpiresAt" timestamptz,
  "scope"                 text,
  "password"              text,
  "createdAt"             timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP,
  "updatedAt"             timestamptz NOT NULL
);
CREATE INDEX "account_userId_idx" ON "account" ("userId");

CREATE TABLE "verification" (
  "id"         text PRIMARY KEY,
  "identifier" text NOT NULL,
  "value"      text NOT NULL,
  "expiresAt"  timestamptz NOT NULL,
  "createdAt"  timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP,
  "updatedAt"  timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX "verification_identifier_idx" ON "verification" ("identifier");

CREATE TABLE "deviceCode" (
  "id"              text PRIMARY KEY,
  "deviceCode"      text NOT NULL,
  "userCode"        text NOT NULL,
  "userId"          text,
  "expiresAt"       timestamptz NOT NULL,
  "status"          text NOT NULL,
  "lastPolledAt"    timestamptz,
  "pollingInterval" integer,
  "clientId"        text,
  "scope"           text
);
CREATE UNIQUE INDEX "deviceCode_deviceCode_uidx" ON "deviceCode" ("deviceCode");
CREATE UNIQUE INDEX "deviceCode_userCode_uidx" ON "deviceCode" ("userCode");

CREATE TABLE "rateLimit" (
  "id"          text PRIMARY KEY,
  "key"         text NOT NULL UNIQUE,
  "count"       integer NOT NULL,
  "lastRequest" bigint NOT NULL
);

-- Machines. A secret is 32 random bytes, so its SHA-256 is as hard to invert as the secret is to guess: no salt, no
-- slow hash. It is shown once and never stored.
CREATE TABLE api_keys (
  id           text PRIMARY KEY,
  user_id      text NOT NULL REFERENCES "user" ("id") ON DELETE CASCADE,
  hash         bytea NOT NULL UNIQUE,
  prefix       text NOT NULL,
  label        text NOT NULL,
  scopes       text[] NOT NULL,
  budget_micro bigint CHECK (budget_micro >= 0),
  expires_at   timestamptz,
  last_used_at timestamptz,
  revoked_at   timestamptz,
  created_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX api_keys_user ON api_keys (user_id, id DESC);

CREATE TABLE agent_tokens (
  id           text PRIMARY KEY,
  user_id      text NOT NULL REFERENCES "user" ("id") ON DELETE CASCADE,
  hash         bytea NOT NULL UNIQUE,
  prefix       text NOT NULL,
  label        text NOT NULL,
  last_used_at timestamptz,
  revoked_at   timestamptz,
  created_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX agent_tokens_user ON agent_tokens (user_id, id DESC);
