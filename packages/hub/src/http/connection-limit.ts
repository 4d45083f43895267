/**
 * How many connections one address may hold at once. Proxies in front are left out, for theirs are everybody's and
 * limiting people is then the proxy's part; so is this machine itself, where a proxy that nobody listed would stand.
 */
import type { Server } from "node:http";
import { BlockList, isIP, type Socket } from "node:net";
import type { Duplex } from "node:stream";

/** Not counted: the machine itself. */
export const LOOPBACK: readonly string[] = ["127.0.0.0/8", "::1"];

export interface ConnectionLimit {
  /** Connections of one address; what comes above it is closed at once, unheard. 0: no limit. */
  perAddress: number;
  /** Addresses and networks whose connections are not counted. */
  exempt: readonly string[];
}

export interface Connections {
  /** Counts a connection no longer: an agent's, once its node is proved, which its token bounds from then on. */
  release(socket: Duplex): void;
}

/** Counts the connections that a server takes from now on. */
export function limitConnections(server: Server, { perAddress, exempt }: ConnectionLimit): Connections {
  const uncounted = networks(exempt);
  const open = new Map<string, number>();
  const counted = new WeakMap<Duplex, string>();

  function release(socket: Duplex): void {
    const address = counted.get(socket);
    if (address === undefined) return;
    counted.delete(socket);
    const left = open.get(address)! - 1;
    if (left === 0) open.delete(address);
    else open.set(address, left);
  }

  if (perAddress > 0)
    server.on("connection", (socket: Socket) => {
      const address = plain(socket.remoteAddress ?? "");
      if (isIn(uncounted, address)) return;
      const count = (open.get(address) ?? 0) + 1;
      if (count > perAddress) return void socket.destroy();
      open.set(address, count);
      counted.set(socket, address);
      socket.once("close", () => release(socket));
    });
  return { release };
}

function networks(entries: readonly string[]): BlockList {
  const list = new BlockList();
  for (const entry of entries) {
    const [address = "", prefix] = entry.split("/");
    const family = isIP(address) === 6 ? "ipv6" : "ipv4";
    if (prefix === undefined) list.addAddress(address, family);
    else list.addSubnet(address, Number(prefix), family);
  }
  return list;
}

function isIn(list: BlockList, address: string): boolean {
  const family = isIP(address);
  return family !== 0 && list.check(address, family === 6 ? "ipv6" : "ipv4");
}

/** An IPv4 address as such where a socket for both families shows it inside an IPv6 one. */
const plain = (address: string): string => address.replace(/^::ffff:(?=\d+\.)/i, "");
