/**
 * From which block of addresses a node comes: an IPv4 /24 or an IPv6 /48, about what one customer of a network gets. It
 * bounds what newcomers of one place get together; it is kept in memory alone and told to nobody.
 *
 * Who is on this machine or in its own network has none: there, one block is everybody, as it is behind a proxy that
 * GFE_TRUSTED_PROXIES does not name.
 */
import type { IncomingMessage } from "node:http";
import { BlockList, isIP } from "node:net";

const local = networks([
  "0.0.0.0/8",
  "10.0.0.0/8",
  "100.64.0.0/10",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "172.16.0.0/12",
  "192.168.0.0/16",
  "::/127",
  "fc00::/7",
  "fe80::/10",
]);

/** Null for addresses that are local, or none at all. */
export function addressBlock(address: string): string | null {
  const plain = unmapped(address);
  const version = isIP(plain);
  if (version === 0 || contains(local, plain)) return null;
  if (version === 4) return `${plain.split(".").slice(0, 3).join(".")}.0/24`;
  return `${groupsOf(plain).slice(0, 3).join(":")}::/48`;
}

/**
 * The address that a connection comes from; of proxies that are trusted, the one that they name. Later entries of
 * X-Forwarded-For are nearer to the hub, and everything before the first that is not trusted may be made up.
 */
export function createClientAddress(
  trustedProxies: readonly string[],
): (request: IncomingMessage) => string | null {
  const trusted = networks(trustedProxies);
  return ({ headers, socket }) => {
    const claimed = [headers["x-forwarded-for"] ?? ""].flat().join(",").split(",");
    let address = unmapped(socket.remoteAddress ?? "");
    while (contains(trusted, address)) {
      const next = claimed.pop()?.trim();
      if (next === undefined || next === "") return address;
      address = unmapped(next);
    }
    return isIP(address) === 0 ? null : address;
  };
}

function networks(parts: readonly string[]): BlockList {
  const list = new BlockList();
  for (const part of parts) {
    const [address = "", bits] = part.split("/");
    const type = isIP(address) === 4 ? "ipv4" : "ipv6";
    list.addSubnet(address, bits === undefined ? (type === "ipv4" ? 32 : 128) : Number(bits), type);
  }
  return list;
}

function contains(list: BlockList, address: string): boolean {
  const version = isIP(address);
  return version !== 0 && list.check(address, version === 4 ? "ipv4" : "ipv6");
}

/** ::ffff:192.0.2.1 → 192.0.2.1, and no zone. */
const unmapped = (address: string): string => address.replace(/%.*$/, "").replace(/^::ffff:(?=\d+\.)/i, "");

/** The eight groups of an IPv6 address, without leading zeros. */
function groupsOf(address: string): string[] {
  const [head = "", tail] = new URL(`http://[${address}]/`).hostname.slice(1, -1).split("::");
  const [first, last] = [head, tail ?? ""].map((text) => text.split(":").filter(Boolean)) as [
    string[],
    string[],
  ];
  return [...first, ...Array<string>(8 - first.length - last.length).fill("0"), ...last];
}
