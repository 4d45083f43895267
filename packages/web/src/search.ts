/**
 * A page's query as plain text. The router would read JSON out of it, and so take a device's code such as "24681357"
 * or "2E345678" for a number.
 */
export function parseSearch(query: string): Record<string, string> {
  return Object.fromEntries(new URLSearchParams(query));
}

export function stringifySearch(search: Record<string, unknown>): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(search))
    if (value !== undefined && value !== "") query.set(name, String(value));
  return query.size > 0 ? `?${query}` : "";
}
