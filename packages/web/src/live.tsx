/** One live stream for the whole page: it keeps the queries' data fresh, so that no page polls. */
import type { LiveEvent, LiveState, MarketSnapshot, Me } from "@gfe/sdk";
import { createContext, type ReactNode, use, useEffect, useState } from "react";
import { client, queryClient } from "./client.ts";
import { useMe } from "./parts/account.tsx";

interface Live {
  state: LiveState | "connecting";
  market: MarketSnapshot | null;
}

/** However fast jobs come and go, lists are asked for anew at most so often. */
const REFRESH_MS = 1_000;

const LiveContext = createContext<Live>({ state: "connecting", market: null });
export const useLive = (): Live => use(LiveContext);

export function LiveProvider({ children }: { children: ReactNode }) {
  const [state, setState] = useState<Live["state"]>("connecting");
  const [market, setMarket] = useState<MarketSnapshot | null>(null);
  const { data: me, isPending } = useMe();
  const userId = me?.user.id;
  // biome-ignore lint/correctness/useExhaustiveDependencies: whose events come is settled when the stream opens
  useEffect(() => {
    if (isPending) return;
    const stop = new AbortController();
    const refresh = createRefresher(stop.signal);
    const onEvent = (event: LiveEvent) => {
      if (event.type === "snapshot") {
        setMarket(event.market);
        refresh(); // what came before it was missed
      } else if (event.type === "stats") setMarket((old) => old && { ...old, stats: event.stats });
      else if (event.type === "models") setMarket((old) => old && { ...old, models: event.models });
      else if (event.type === "balance") setBalance(event);
      else refresh();
    };
    client.live({ signal: stop.signal, onState: setState, onEvent }).catch(() => setState("stale"));
    return () => {
      stop.abort();
      setState("connecting");
    };
  }, [userId, isPending]);
  return <LiveContext value={{ state, market }}>{children}</LiveContext>;
}

function setBalance({ available_micro, held_micro }: Extract<LiveEvent, { type: "balance" }>): void {
  const posted_micro = (BigInt(available_micro) + BigInt(held_micro)).toString();
  queryClient.setQueryData<Me | null>(
    ["me"],
    (me) => me && { ...me, balance: { posted_micro, held_micro, available_micro } },
  );
}

/** Marks the lists that jobs and nodes show up in as old: at once, then no more often than REFRESH_MS. */
function createRefresher(signal: AbortSignal): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let due = false;
  const run = () => {
    for (const name of ["jobs", "ledger", "nodes", "prices", "earnings", "disputes"])
      void queryClient.invalidateQueries({ queryKey: [name] });
    due = false;
    timer = setTimeout(() => {
      timer = undefined;
      if (due) run();
    }, REFRESH_MS);
  };
  signal.addEventListener("abort", () => clearTimeout(timer));
  return () => {
    if (timer === undefined) run();
    else due = true;
  };
}
