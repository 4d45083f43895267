import type { LedgerEntry } from "@gfe/sdk";
import { useInfiniteQuery, useMutation } from "@tanstack/react-query";
import { client, credits, when } from "../client.ts";
import { SignedIn, useMe } from "../parts/account.tsx";
import { Fault, Figure, Page, Table } from "../parts/parts.tsx";

export function LedgerPage() {
  return (
    <SignedIn title="Ledger">
      <Entries />
    </SignedIn>
  );
}

function Entries() {
  const { data: me } = useMe();
  const { data, error, fetchNextPage, hasNextPage, isFetchingNextPage } = useInfiniteQuery({
    queryKey: ["ledger"],
    queryFn: ({ pageParam }) => client.ledger(pageParam ? { before: pageParam } : {}),
    initialPageParam: "",
    getNextPageParam: ({ next }) => next,
  });
  return (
    <Page title="Ledger" intro="Every credit that came or went. Rows are never changed or removed.">
      {me && (
        <dl className="grid grid-cols-2 gap-3">
          <Figure
            gold
            name="credits available"
            value={credits(me.balance.available_micro)}
            testId="available"
          />
          <Figure name="held for running jobs" value={credits(me.balance.held_micro)} testId="held" />
        </dl>
      )}
      <Fault error={error} />
      <Table
        caption="Ledger entries, newest first"
        head={["Amount", "What", "With", "Job", "When"]}
        rows={data?.pages.flatMap((page) => page.entries.map(cells)) ?? null}
        empty="Nothing has moved yet."
      />
      {hasNextPage && (
        <button
          type="button"
          className="button"
          disabled={isFetchingNextPage}
          onClick={() => void fetchNextPage()}
        >
          Older
        </button>
      )}
      {me?.user.role === "operator" && <Audit />}
    </Page>
  );
}

function cells({ amount_micro, code, counterparty, reference, created_at }: LedgerEntry) {
  const spent = amount_micro.startsWith("-");
  return [
    <span key="amount" className={spent ? "text-text" : "text-success"}>
      {spent ? "" : "+"}
      {credits(amount_micro)}
    </span>,
    code.replaceAll("_", " "),
    counterparty,
    <code key="job" className="text-text-3">
      {reference ?? "–"}
    </code>,
    when(created_at),
  ];
}

/** For operators: recomputes every invariant of the whole ledger. */
function Audit() {
  const { data, error, isPending, mutate } = useMutation({ mutationFn: client.verifyLedger });
  return (
    <div className="card space-y-3">
      <h2 className="text-lg font-semibold">Audit</h2>
      <button type="button" className="button" disabled={isPending} onClick={() => mutate()}>
        Verify the whole ledger
      </button>
      <Fault error={error} />
      <ul role="status" className="space-y-1">
        {data?.checks.map(({ name, ok, detail }) => (
          <li key={name} className={ok ? "text-success" : "text-danger"}>
            {ok ? "✓" : "✕"} {name}
            {!ok && `: ${detail}`}
          </li>
        ))}
      </ul>
    </div>
  );
}
