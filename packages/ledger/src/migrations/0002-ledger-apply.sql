-- One batch of operations, set by set, in one statement and so one commit: first what releases (settle, void, expire),
-- then transfers, then holds. Every change to an account or its holds is made under the account's row lock, taken in
-- the order of ids, so that batches of several hubs neither deadlock nor race.
--
--   ops = { resolves:  [{n, hold, state, reason, transfers: [{id, to, amount, code}]}],
--           transfers: [{n, items: [{id, from, to, amount, code, reference}]}],      -- each group: all or none
--           holds:     [{n, id, account, budget, amount, expires_at}],
--           riders:    [{fn, rows: [{n, row}]}] }
--
-- Answers one row for each n. `retry`: the hold did not fit beside those accepted before it, but would fit now.
-- A rider is a function of one jsonb argument, called once with the rows whose operations were applied.
CREATE FUNCTION ledger_apply(ops jsonb) RETURNS TABLE (n int, result text) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  answers jsonb := '[]';
  applied int[] := '{}';
  part    jsonb;
  g       record;
  outcome text;
BEGIN
  PERFORM 1 FROM ledger_accounts a WHERE a.kind <> 'system' AND a.id IN (
      SELECT x->>'account' FROM jsonb_array_elements(ops->'holds') x
      UNION SELECT h.account FROM jsonb_array_elements(ops->'resolves') x JOIN ledger_holds h ON h.id = x->>'hold'
      UNION SELECT t->>'to' FROM jsonb_array_elements(ops->'resolves') x, jsonb_array_elements(x->'transfers') t
      UNION SELECT t->>'from' FROM jsonb_array_elements(ops->'transfers') x, jsonb_array_elements(x->'items') t
      UNION SELECT t->>'to' FROM jsonb_array_elements(ops->'transfers') x, jsonb_array_elements(x->'items') t)
    ORDER BY a.id FOR UPDATE;
  PERFORM 1 FROM ledger_budgets b WHERE b.id IN (
      SELECT x->>'budget' FROM jsonb_array_elements(ops->'holds') x
      UNION SELECT h.budget FROM jsonb_array_elements(ops->'resolves') x JOIN ledger_holds h ON h.id = x->>'hold')
    ORDER BY b.id FOR UPDATE;

  IF jsonb_array_length(ops->'resolves') > 0 THEN
    part := ledger_resolve(ops->'resolves');
    answers := answers || part;
  END IF;

  FOR g IN SELECT x.n, x.items FROM jsonb_to_recordset(ops->'transfers') AS x (n int, items jsonb) ORDER BY x.n LOOP
    outcome := ledger_transfer(g.items);
    answers := answers || jsonb_build_array(jsonb_build_object('n', g.n, 'result', outcome));
  END LOOP;

  IF jsonb_array_length(ops->'holds') > 0 THEN
    part := ledger_hold(ops->'holds');
    answers := answers || part;
  END IF;

  SELECT array_agg(x.n) INTO applied FROM jsonb_to_recordset(answers) AS x (n int, result text)
    WHERE x.result IN ('created', 'settled', 'voided', 'expired');
  FOR g IN SELECT x.fn, x.rows FROM jsonb_to_recordset(ops->'riders') AS x (fn text, rows jsonb) LOOP
    SELECT jsonb_agg(r.row) INTO part FROM jsonb_to_recordset(g.rows) AS r (n int, row jsonb) WHERE r.n = ANY (applied);
    IF part IS NOT NULL THEN
      EXECUTE format('SELECT %I($1)', g.fn) USING part;
    END IF;
  END LOOP;
  RETURN QUERY SELECT x.n, x.result FROM jsonb_to_recordset(answers) AS x (n int, result text);
END $$;

CREATE FUNCTION ledger_resolve(resolves jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  answers jsonb;
BEGIN
  WITH r AS (
    SELECT x.*, coalesce((SELECT sum((t->>'amount')::bigint) FROM jsonb_array_elements(x.transfers) t), 0)::bigint AS total
    FROM jsonb_to_recordset(resolves) AS x (n int, hold text, state text, reason text, transfers jsonb)
  ), judged AS (
    SELECT r.n, r.hold, r.state, r.reason, r.transfers, r.total, h.account, h.budget, h.amount,
      CASE
        WHEN h.id IS NULL THEN 'hold_not_found'
        WHEN h.state <> 'open' AND h.state <> r.state THEN 'already_' || h.state
        WHEN h.state <> 'open' AND h.settled <> r.total THEN 'exists_with_different_amount'
        WHEN h.state <> 'open' THEN 'exists'
        WHEN r.total > h.amount THEN 'exceeds_hold'
        WHEN EXISTS (SELECT 1 FROM jsonb_array_elements(r.transfers) t
                     WHERE NOT EXISTS (SELECT 1 FROM ledger_accounts a WHERE a.id = t->>'to')) THEN 'account_not_found'
        WHEN EXISTS (SELECT 1 FROM jsonb_array_elements(r.transfers) t WHERE t->>'to' = h.account) THEN 'same_account'
        WHEN EXISTS (SELECT 1 FROM jsonb_array_elements(r.transfers) t
                     WHERE EXISTS (SELECT 1 FROM ledger_transfers e WHERE e.id = t->>'id')) THEN 'transfer_exists'
        ELSE r.state
      END AS result
    FROM r LEFT JOIN ledger_holds h ON h.id = r.hold
  ), ok AS (
    SELECT * FROM judged WHERE result = state
  ), resolved AS (
    UPDATE ledger_holds h SET state = ok.state, settled = ok.total, reason = ok.reason, resolved_at = now()
    FROM ok WHERE h.id = ok.hold
  ), entries AS (
    INSERT INTO ledger_transfers (id, debit, credit, amount, code, reference, hold_id)
    SELECT t.id, ok.account, t."to", t.amount, t.code, ok.hold, ok.hold
    FROM ok, jsonb_to_recordset(ok.transfers) AS t (id text, "to" text, amount bigint, code text)
  ), moved AS (
    SELECT account, sum(posted)::bigint AS posted, sum(held)::bigint AS held FROM (
      SELECT account, -total AS posted, -amount AS held FROM ok
      UNION ALL
      SELECT t->>'to', (t->>'amount')::bigint, 0 FROM ok, jsonb_array_elements(ok.transfers) t
    ) m GROUP BY account
  ), balances AS (
    UPDATE ledger_accounts a SET posted = a.posted + moved.posted, held = a.held + moved.held
    FROM moved WHERE a.id = moved.account AND a.kind <> 'system'
  ), budgets AS (
    UPDATE ledger_budgets b SET held = b.held - m.held, spent = b.spent + m.spent
    FROM (SELECT budget, sum(amount)::bigint AS held, sum(total)::bigint AS spent FROM ok WHERE budget IS NOT NULL GROUP BY budget) m
    WHERE b.id = m.budget
  )
  SELECT jsonb_agg(jsonb_build_object('n', judged.n, 'result', judged.result)) INTO answers FROM judged;
  RETURN answers;
END $$;

CREATE FUNCTION ledger_hold(holds jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  answers jsonb;
BEGIN
  WITH x AS (
    SELECT * FROM jsonb_to_recordset(holds) AS x (n int, id text, account text, budget text, amount bigint, expires_at timestamptz)
  ), known AS (
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
    FROM x
    LEFT JOIN ledger_holds h ON h.id = x.id
    LEFT JOIN ledger_accounts a ON a.id = x.account
    LEFT JOIN ledger_budgets b ON b.id = x.budget
  ), summed AS (
    SELECT known.*,
      sum(amount) OVER (PARTITION BY account ORDER BY n) AS account_sum,
      sum(amount) OVER (PARTITION BY budget ORDER BY n) AS budget_sum
    FROM known WHERE known IS NULL
  ), fitted AS (
    SELECT *, account_sum <= available AND (budget IS NULL OR budget_sum <= allowance) AS fits FROM summed
  ), rested AS (
    SELECT *,
      available - coalesce(sum(amount) FILTER (WHERE fits) OVER (PARTITION BY account), 0) AS available_left,
      allowance - coalesce(sum(amount) FILTER (WHERE fits) OVER (PARTITION BY budget), 0) AS allowance_left
    FROM fitted
  ), opened AS (
    INSERT INTO ledger_holds (id, account, budget, amount, expires_at)
    SELECT id, account, budget, amount, expires_at FROM rested WHERE fits
  ), accounts AS (
    UPDATE ledger_accounts a SET held = a.held + m.amount
    FROM (SELECT account, sum(amount)::bigint AS amount FROM rested WHERE fits GROUP BY account) m WHERE a.id = m.account
  ), budgets AS (
    UPDATE ledger_budgets b SET held = b.held + m.amount
    FROM (SELECT budget, sum(amount)::bigint AS amount FROM rested WHERE fits AND budget IS NOT NULL GROUP BY budget) m
    WHERE b.id = m.budget
  )
  SELECT jsonb_agg(jsonb_build_object('n', j.n, 'result', j.result)) INTO answers FROM (
    SELECT n, known AS result FROM known WHERE known IS NOT NULL
    UNION ALL
    SELECT n, CASE
        WHEN fits THEN 'created'
        WHEN amount > available_left THEN 'exceeds_credits'
        WHEN amount > allowance_left THEN 'exceeds_budget'
        ELSE 'retry'
      END FROM rested
  ) j;
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
