/** A load balancer for tests: new connections go to hubs in turn, to those only whose /readyz says so. */
import { connect, createServer, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

const CHECK_MS = 100;
const CHECK_TIMEOUT_MS = 1_000;
/** How long a connection may wait for a hub that takes it. */
const CONNECT_MS = 5_000;

export interface Balancer {
  url: string;
  /** Connections that found no hub. */
  readonly refused: number;
  close(): Promise<void>;
}

export async function startBalancer(ports: readonly number[]): Promise<Balancer> {
  const ready = new Set<number>();
  const sockets = new Set<Socket>();
  let turn = 0;
  let refused = 0;
  let closing = false;

  async function check(port: number): Promise<void> {
    const signal = AbortSignal.timeout(CHECK_TIMEOUT_MS);
    const ok = await fetch(`http://127.0.0.1:${port}/readyz`, { signal, headers: { connection: "close" } })
      .then(async (response) => {
        await response.arrayBuffer();
        return response.ok;
      })
      .catch(() => false);
    if (ok) ready.add(port);
    else ready.delete(port);
  }
  async function keepChecking(port: number): Promise<void> {
    for (; !closing; await sleep(CHECK_MS)) await check(port);
  }

  function dial(port: number): Promise<Socket | null> {
    return new Promise((resolve) => {
      const socket = connect({ port, host: "127.0.0.1", noDelay: true });
      socket.once("connect", () => resolve(socket)).once("error", () => resolve(null));
    });
  }
  async function reach(): Promise<Socket | null> {
    for (const until = Date.now() + CONNECT_MS; Date.now() < until && !closing; await sleep(CHECK_MS / 10)) {
      const port = [...ready][turn++ % ready.size];
      const socket = port === undefined ? null : await dial(port);
      if (socket) return socket;
      if (port !== undefined) ready.delete(port);
    }
    return null;
  }

  const server = createServer({ noDelay: true, pauseOnConnect: true }, (client) => {
    sockets.add(client);
    client.once("close", () => sockets.delete(client)).on("error", () => client.destroy());
    void reach().then((hub) => {
      if (!hub) {
        refused++;
        return client.destroy();
      }
      sockets.add(hub);
      hub
        .on("error", () => client.destroy())
        .once("close", () => {
          sockets.delete(hub);
          client.destroySoon();
        });
      client.once("close", () => hub.destroySoon());
      client.pipe(hub).pipe(client);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  const checking = ports.map(keepChecking);
  return {
    url: `http://127.0.0.1:${port}`,
    get refused() {
      return refused;
    },
    async close() {
      closing = true;
      for (const socket of sockets) socket.destroy();
      await Promise.all([...checking, new Promise((resolve) => server.close(resolve))]);
    },
  };
}
