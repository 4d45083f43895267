/** One live stream for the whole page: it keeps the queries' data fresh, so that no page polls. */
import type { LiveState, MarketSnapshot } from "@gfe/sdk";
import { createContext, type ReactNode, use, useEffect, useState } from "react";
import { client, queryClient } from "./client.ts";

interface Live {
  state: LiveState | "connecting";
  market: MarketSnapshot | null;
}

const LiveContext = createContext<Live>({ state: "connecting", market: null });
export const useLive = (): Live => use(LiveContext);

export function LiveProvider({ children }: { children: ReactNode }) {
  const [state, setState] = useState<Live["state"]>("connecting");
  const [market, setMarket] = useState<MarketSnapshot | null>(null);
  useEffect(() => {
    const stop = new AbortController();
    void client.live({
      signal: stop.signal,
      onState: setState,
      onEvent(event) {
        if (event.type === "snapshot") setMarket(event.market);
        else if (event.type === "stats") setMarket((old) => old && { ...old, stats: event.stats });
        else if (event.type === "models") setMarket((old) => old && { ...old, models: event.models });
        else if (event.type === "job") {
          void queryClient.invalidateQueries({ queryKey: ["jobs"] });
          void queryClient.invalidateQueries({ queryKey: ["ledger"] });
        } else if (event.type === "balance") void queryClient.invalidateQueries({ queryKey: ["me"] });
      },
    });
    return () => stop.abort();
  }, []);
  return <LiveContext value={{ state, market }}>{children}</LiveContext>;
}
