/**
 * The proxy that HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY name, in either case, for HTTP and WebSockets alike: a tunnel
 * (CONNECT), so that encryption stays from end to end. This machine itself is never reached through one.
 */
import type { Agent } from "node:http";
import { HttpsProxyAgent } from "https-proxy-agent";
import { getProxyForUrl } from "proxy-from-env";

const LOOPBACK = /^(localhost|.*\.localhost|127(\.\d+){3}|\[::1\])$/;
const tunnels = new Map<string, HttpsProxyAgent<string>>();

/** What dials through the proxy for that address; undefined where none is meant. Throws where the proxy is no address. */
export function tunnelTo(url: URL): Agent | undefined {
  if (LOOPBACK.test(url.hostname)) return undefined;
  const proxy = getProxyForUrl(url.href.replace(/^ws/, "http"));
  if (proxy === "") return undefined;
  const known = tunnels.get(proxy);
  if (known) return known as unknown as Agent;
  const parsed = URL.parse(proxy);
  if (!parsed || !/^https?:$/.test(parsed.protocol))
    throw new Error("the proxy in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY must be an http(s) address");
  const tunnel = new HttpsProxyAgent(proxy, { keepAlive: true });
  tunnels.set(proxy, tunnel);
  return tunnel as unknown as Agent;
}
