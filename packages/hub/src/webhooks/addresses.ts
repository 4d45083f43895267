/**
 * Where the hub may be made to connect to: the public internet, and nothing beside or behind the hub. A name is judged
 * by what it resolves to in the look-up that the connection itself makes, so a second answer (DNS rebinding) is of no use.
 * Ranges: IANA's registries of special-purpose addresses.
 */
import { type LookupAddress, lookup as resolve } from "node:dns";
import { BlockList, isIP, type LookupFunction } from "node:net";
import { GfeError } from "@gfe/protocol";

export const URL_MAX = 2_000;

const closed4 = new BlockList();
for (const network of [
  "0.0.0.0/8",
  "10.0.0.0/8",
  "100.64.0.0/10",
  "127.0.0.0/8",
  "169.254.0.0/16", // metadata services live here
  "172.16.0.0/12",
  "192.0.0.0/24",
  "192.0.2.0/24",
  "192.88.99.0/24",
  "192.168.0.0/16",
  "198.18.0.0/15",
  "198.51.100.0/24",
  "203.0.113.0/24",
  "224.0.0.0/4",
  "240.0.0.0/4",
]) {
  const [address, prefix] = network.split("/");
  closed4.addSubnet(address!, Number(prefix));
}
/** Of IPv6 only what is given out is open, less the parts of it that carry or stand for other addresses. */
const open6 = new BlockList();
open6.addSubnet("2000::", 3, "ipv6");
const closed6 = new BlockList();
closed6.addSubnet("2001::", 23, "ipv6"); // protocol assignments, Teredo
closed6.addSubnet("2001:db8::", 32, "ipv6");
closed6.addSubnet("2002::", 16, "ipv6"); // 6to4
closed6.addSubnet("3fff::", 20, "ipv6");

/** Whether an IP address is one that strangers may send the hub to. */
export function isPublicAddress(address: string): boolean {
  switch (isIP(address)) {
    case 4:
      return !closed4.check(address);
    case 6:
      return open6.check(address, "ipv6") && !closed6.check(address, "ipv6");
    default:
      return false;
  }
}

/** Throws invalid_request, with the reason, where the hub would never deliver to this address. */
export function refuseAddress(text: string, allowPrivate: boolean): void {
  const refuse = (reason: string): never => {
    throw new GfeError("invalid_request", `url: ${reason}`, { param: "url" });
  };
  if (text.length > URL_MAX || !URL.canParse(text)) refuse("must be an address");
  const url = new URL(text);
  if (url.protocol !== "https:" && !(allowPrivate && url.protocol === "http:"))
    refuse("must begin with https://");
  if (url.username !== "" || url.password !== "") refuse("must not have a name or password in it");
  const host = url.hostname.replace(/^\[|\]$/g, "");
  if (!allowPrivate && isIP(host) !== 0 && !isPublicAddress(host)) refuse("is not a public address");
}

type Resolver = (
  hostname: string,
  options: { all: true },
  callback: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void;

/** For `lookup` of a connection: fails where any address of the name is not public. */
export function publicLookup(resolver: Resolver = resolve as Resolver): LookupFunction {
  return (hostname, options, callback) => {
    resolver(hostname, { all: true }, (error, addresses) => {
      const first = addresses?.[0];
      if (error || !first) return callback(error ?? new Error("the name has no address"), "", 0);
      if (!addresses.every(({ address }) => isPublicAddress(address)))
        return callback(new Error("the name leads to an address that is not public"), "", 0);
      if (options.all) callback(null, addresses);
      else callback(null, first.address, first.family);
    });
  };
}
