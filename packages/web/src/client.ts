import { createClient, formatCredits } from "@gfe/sdk";
import { QueryClient } from "@tanstack/react-query";

export const client = createClient();
export const queryClient = new QueryClient({ defaultOptions: { queries: { retry: 1, staleTime: 5_000 } } });

/** Exact, at least two decimals. */
export const credits = (micro: string): string => formatCredits(BigInt(micro), 2);

export const when = (iso: string | null): string => (iso === null ? "–" : new Date(iso).toLocaleString());
