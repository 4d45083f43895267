/** A bare relay by node:http: it forwards and does nothing else. What any gateway in Node must cost at least. */
import { Agent, createServer, request as httpRequest } from "node:http";

const upstream = Number(process.env.UPSTREAM_PORT);
const agent = new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY });

const server = createServer((request, response) => {
  request.socket.setNoDelay(true);
  const outgoing = httpRequest(
    {
      agent,
      host: "127.0.0.1",
      port: upstream,
      path: request.url,
      method: request.method,
      headers: request.headers,
    },
    (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    },
  );
  outgoing.on("error", () => response.destroy());
  response.on("close", () => outgoing.destroy());
  request.pipe(outgoing);
});
server.keepAliveTimeout = 0;
server.listen(Number(process.env.PORT), "127.0.0.1");
