-- One batch of operations, set by set, in one statement and so one commit: first what releases (settle, void, expire),
-- then transfers, then holds. Every change to an account or its holds is made under the account's row lock, taken in
-- the order of ids, so that batches of several hubs neither deadlock nor race.
--
--   ops = { accounts, budgets: what the caller knows that the batch touches, so that it is locked first
--           resolves:  [{n, hold, state, reason, transfers: [{id, to, amount, code}]}],
--           transfers: [{n, items: [{id, from, to, amount, code, reference}]}],      -- each group: all or none
--           holds:     [{n, id, account, budget, amount, expires_at}],
--           riders:    [{fn, rows: [{n, …}]}] }
--
-- Answers one row for each n. `retry`: the hold did not fit beside those accepted before it, but would fit now.
--
-- Rows are found by their keys, however large the tables are and whatever was last analysed: the planner once took all
-- holds for a few, and hashed every transfer there ever was for each batch. So it may only loop over indexes here.
CREATE TYPE ledger_answers AS (ns int[], results text[]);

CREATE FUNCTION ledger_apply(ops jsonb) RETURNS TABLE (n int, result text) LANGUAGE plpgsql
  SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_material = off
  SET enable_memoize = off SET random_page_cost = 0.01 SET jit = off
  SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
  accounts text[] := ARRAY(SELECT jsonb_array_elements_text(ops->'accounts'));
  budgets  text[] := ARRAY(SELECT jsonb_array_elements_text(ops->'budgets'));
  resolves jsonb  := ops->'resolves';
  holds    jsonb  := ops->'holds';
  held     record;
  part     ledger_answers;
  all_ns   int[]  := '{}';
  outcomes text[] := '{}';
  applied  int[];
  g        record;
BEGIN
  IF jsonb_array_length(resolves) > 0 THEN
    SELECT array_agg(h.account) AS accounts, array_agg(h.budget) FILTER (WHERE h.budget IS NOT NULL) AS budgets INTO held
      FROM jsonb_to_recordset(resolves) AS x (hold text) JOIN ledger_holds h ON h.id = x.hold;
    accounts := accounts || held.accounts;
    budgets := budgets || held.budgets;
  END IF;
  PERFORM 1 FROM ledger_accounts a WHERE a.id = ANY (accounts) AND a.kind <> 'system' ORDER BY a.id FOR UPDATE;
  IF cardinality(budgets) > 0 THEN
    PERFORM 1 FROM ledger_budgets b WHERE b.id = ANY (budgets) ORDER BY b.id FOR UPDATE;
  END IF;

  IF jsonb_array_length(resolves) > 0 THEN
    part := ledger_resolve(resolves);
    all_ns := part.ns;
    outcomes := part.results;
  END IF;
  FOR g IN SELECT x.n, x.items FROM jsonb_to_recordset(ops->'transfers') AS x (n int, items jsonb) ORDER BY x.n LOOP
    all_ns := all_ns || g.n;
    outcomes := outcomes || ledger_transfer(g.items);
  END LOOP;
  IF jsonb_array_length(holds) > 0 THEN
    part := ledger_hold(holds);
    all_ns := all_ns || part.ns;
    outcomes := outcomes || part.results;
  END IF;

  IF jsonb_array_length(ops->'riders') > 0 THEN
    applied := ARRAY(SELECT x.n FROM unnest(all_ns, outcomes) AS x (n, result)
      WHERE x.result IN ('created', 'settled', 'voided', 'expired'));
    FOR g IN SELECT x.fn, x.rows FROM jsonb_to_recordset(ops->'riders') AS x (fn text, rows jsonb) LOOP
      PERFORM ledger_rider(g.fn, g.rows, applied);
    END LOOP;
  END IF;
  RETURN QUERY SELECT x.n, x.result FROM unnest(all_ns, outcomes) AS x (n, result);
END $$;

-- Rows that commit with the operations they belong to. Whoever has riders replaces this with a function that knows
-- their names; it writes those of the rows whose `n` is among the applied, and no others.
CREATE FUNCTION ledger_rider(fn text, rows jsonb, applied int[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the rider % is not known', fn;
END $$;

-- One row for each transfer of each operation (one with nulls where it has none), so that no join of the batch with
-- itself is needed; `first` stands for the operation.
CREATE FUNCTION ledger_resolve(resolves jsonb) RETURNS ledger_answers LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  answers ledger_answers;
BEGIN
  WITH items AS MATERIALIZED (
    SELECT x.n, x.hold, x.state, x.reason, i.id, i."to", i.amount, i.code,
      row_number() OVER w = 1 AS first,
      coalesce(sum(i.amount) OVER w, 0)::bigint AS total,
      bool_or(i.id IS NOT NULL AND a.id IS NULL) OVER w AS account_missing,
      bool_or(i."to" = h.account) OVER w AS to_itself,
      bool_or(e.id IS NOT NULL) OVER w AS transfer_exists,
      h.account, h.budget, h.amount AS held, h.state AS was, h.settled
    FROM jsonb_to_recordset(resolves) AS x (n int, hold text, state text, reason text, transfers jsonb)
    LEFT JOIN ledger_holds h ON h.id = x.hold
    LEFT JOIN LATERAL jsonb_to_recordset(x.transfers) AS i (id text, "to" text, amount bigint, code text) ON true
    LEFT JOIN ledger_accounts a ON a.id = i."to"
    LEFT JOIN ledger_transfers e ON e.id = i.id
    WINDOW w AS (PARTITION BY x.n ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
  ), judged AS MATERIALIZED (
    SELECT *, CASE
        WHEN was IS NULL THEN 'hold_not_found'
        WHEN was <> 'open' AND was <> state THEN 'already_' || was
        WHEN was <> 'open' AND settled <> total THEN 'exists_with_different_amount'
        WHEN was <> 'open' THEN 'exists'
        WHEN total > held THEN 'exceeds_hold'
        WHEN account_missing THEN 'account_not_found'
        WHEN to_itself THEN 'same_account'
        WHEN transfer_exists THEN 'transfer_exists'
        ELSE state
      END AS result
    FROM items
  ), resolved AS (
    UPDATE ledger_holds h SET state = j.state, settled = j.total, reason = j.reason, resolved_at = now()
    FROM judged j WHERE h.id = j.hold AND j.first AND j.result = j.state
  ), entries AS (
    INSERT INTO ledger_transfers (id, debit, credit, amount, code, reference, hold_id)
    SELECT id, account, "to", amount, code, hold, hold FROM judged WHERE result = state AND id IS NOT NULL
  ), balances AS (
    UPDATE ledger_accounts a SET posted = a.posted + m.posted, held = a.held + m.held
    FROM (
      SELECT account, sum(posted)::bigint AS posted, sum(held)::bigint AS held FROM (
        SELECT account, -total AS posted, -held AS held FROM judged WHERE first AND result = state
        UNION ALL
        SELECT "to", amount, 0 FROM judged WHERE result = state AND id IS NOT NULL
      ) e GROUP BY account
    ) m WHERE a.id = m.account AND a.kind <> 'system'
  ), budgets AS (
    UPDATE ledger_budgets b SET held = b.held - m.held, spent = b.spent + m.spent
    FROM (
      SELECT budget, sum(held)::bigint AS held, sum(total)::bigint AS spent
      FROM judged WHERE first AND result = state AND budget IS NOT NULL GROUP BY budget
    ) m WHERE b.id = m.budget
  )
  SELECT array_agg(n), array_agg(result) INTO answers.ns, answers.results FROM judged WHERE first;
  RETURN answers;
END $$;

CREATE FUNCTION ledger_hold(holds jsonb) RETURNS ledger_answers LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  answers ledger_answers;
BEGIN
  WITH known AS (
    SELECT x.*, a.posted - a.held AS available, b.limit_micro - b.spent - b.held AS allowance,
      CASE
        WHEN h.id IS NOT NULL AND h.account <> x.account THEN 'exists_with_different_account'
        WHEN h.id IS NOT NULL AND h.amount <> x.amount THEN 'exists_with_different_amount'
        WHEN h.id IS NOT NULL AND h.budget IS DISTINCT FROM x.budget THEN 'exists_with_different_budget'
        WHEN h.id IS NOT NULL THEN 'exists'
        WHEN a.id IS NULL THEN 'account_not_found'
        WHEN a.kind <> 'consumer' THEN 'account_cannot_hold'
        WHEN x.budget IS NOT NULL AND b.id IS NULL THEN 'budget_not_found'
      END AS known
    FROM jsonb_to_recordset(holds) AS x (n int, id text, account text, budget text, amount bigint, expires_at timestamptz)
    LEFT JOIN ledger_holds h ON h.id = x.id
    LEFT JOIN ledger_accounts a ON a.id = x.account
    LEFT JOIN ledger_budgets b ON b.id = x.budget
  ), summed AS (
    SELECT known.*, -- what is known counts for nothing in the sums of the others
      sum(amount) FILTER (WHERE known IS NULL) OVER (PARTITION BY account ORDER BY n) AS account_sum,
      sum(amount) FILTER (WHERE known IS NULL) OVER (PARTITION BY budget ORDER BY n) AS budget_sum
    FROM known
  ), fitted AS (
    SELECT *, known IS NULL AND account_sum <= available AND (budget IS NULL OR budget_sum <= allowance) AS fits FROM summed
  ), judged AS MATERIALIZED (
    SELECT *, CASE
        WHEN known IS NOT NULL THEN known
        WHEN fits THEN 'created'
        WHEN amount > available - coalesce(sum(amount) FILTER (WHERE fits) OVER (PARTITION BY account), 0) THEN 'exceeds_credits'
        WHEN amount > allowance - coalesce(sum(amount) FILTER (WHERE fits) OVER (PARTITION BY budget), 0) THEN 'exceeds_budget'
        ELSE 'retry'
      END AS result
    FROM fitted
  ), opened AS (
    INSERT INTO ledger_holds (id, account, budget, amount, expires_at)
    SELECT id, account, budget, amount, expires_at FROM judged WHERE fits
  ), accounts AS (
    UPDATE ledger_accounts a SET held = a.held + m.amount
    FROM (SELECT account, sum(amount)::bigint AS amount FROM judged WHERE fits GROUP BY account) m WHERE a.id = m.account
  ), budgets AS (
    UPDATE ledger_budgets b SET held = b.held + m.amount
    FROM (SELECT budget, sum(amount)::bigint AS amount FROM judged WHERE fits AND budget IS NOT NULL GROUP BY budget) m
    WHERE b.id = m.budget
  )
  SELECT array_agg(n), array_agg(result) INTO answers.ns, answers.results FROM judged;
  RETURN answers;
END $$;

-- A group of transfers, all or none. Rare beside holds and settlements, so it goes row by row; the block is a savepoint.
CREATE FUNCTION ledger_transfer(items jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  t     record;
  known record;
  repeats int := 0;
  total   int := jsonb_array_length(items);
BEGIN
  FOR t IN SELECT * FROM jsonb_to_recordset(items) AS x (id text, "from" text, "to" text, amount bigint, code text, reference text) LOOP
    SELECT * INTO known FROM ledger_transfers e WHERE e.id = t.id;
    IF FOUND THEN
      IF known.debit <> t."from" OR known.credit <> t."to" THEN RETURN 'exists_with_different_account'; END IF;
      IF known.amount <> t.amount THEN RETURN 'exists_with_different_amount'; END IF;
      IF known.code <> t.code THEN RETURN 'exists_with_different_code'; END IF;
      repeats := repeats + 1;
    END IF;
    IF t."from" = t."to" THEN RETURN 'same_account'; END IF;
    IF (SELECT count(*) FROM ledger_accounts a WHERE a.id IN (t."from", t."to")) < 2 THEN RETURN 'account_not_found'; END IF;
  END LOOP;
  IF repeats = total THEN RETURN 'exists'; END IF;
  IF repeats > 0 THEN RETURN 'exists_in_part'; END IF;
  BEGIN
    FOR t IN SELECT * FROM jsonb_to_recordset(items) AS x (id text, "from" text, "to" text, amount bigint, code text, reference text) LOOP
      INSERT INTO ledger_transfers (id, debit, credit, amount, code, reference)
        VALUES (t.id, t."from", t."to", t.amount, t.code, t.reference);
      UPDATE ledger_accounts SET posted = posted - t.amount WHERE id = t."from" AND kind <> 'system';
      UPDATE ledger_accounts SET posted = posted + t.amount WHERE id = t."to" AND kind <> 'system';
    END LOOP;
  EXCEPTION
    WHEN check_violation THEN RETURN 'exceeds_credits';
    WHEN unique_violation THEN RETURN 'exists_in_part';
  END;
  RETURN 'created';
END $$;
