import { useInfiniteQuery } from "@tanstack/react-query";
import { client, credits, when } from "../client.ts";
import { Fault, Page, SignedIn, Table, useMe } from "../parts/parts.tsx";

export function LedgerPage() {
  return (
    <SignedIn>
      <Entries />
    </SignedIn>
  );
}

function Entries() {
  const { data: me } = useMe();
  const { data, error, fetchNextPage, hasNextPage } = useInfiniteQuery({
    queryKey: ["ledger"],
    queryFn: ({ pageParam }) => client.ledger(pageParam ? { before: pageParam } : {}),
    initialPageParam: "",
    getNextPageParam: ({ next }) => next,
  });
  const entries = data?.pages.flatMap((page) => page.entries) ?? [];
  return (
    <Page title="Ledger" intro="Every credit that came or went. Rows are never changed or removed.">
      {me && (
        <dl className="grid grid-cols-2 gap-3">
          <div className="card">
            <dd className="text-2xl font-semibold text-gold tabular-nums" data-testid="available">
              {credits(me.balance.available_micro)}
            </dd>
            <dt className="text-sm text-text-2">credits available</dt>
          </div>
          <div className="card">
            <dd className="text-2xl font-semibold tabular-nums">{credits(me.balance.held_micro)}</dd>
            <dt className="text-sm text-text-2">held for running jobs</dt>
          </div>
        </dl>
      )}
      <Fault error={error} />
      <Table
        caption="Ledger entries, newest first"
        head={["Amount", "What", "With", "Job", "When"]}
        rows={entries.map((entry) => [
          <span key="amount" className={entry.amount_micro.startsWith("-") ? "text-text" : "text-success"}>
            {entry.amount_micro.startsWith("-") ? "" : "+"}
            {credits(entry.amount_micro)}
          </span>,
          entry.code,
          entry.counterparty,
          <code key="job" className="text-text-3">
            {entry.reference ?? "–"}
          </code>,
          when(entry.created_at),
        ])}
        empty="Nothing has moved yet."
      />
      {hasNextPage && (
        <button type="button" className="button" onClick={() => void fetchNextPage()}>
          Older
        </button>
      )}
    </Page>
  );
}
