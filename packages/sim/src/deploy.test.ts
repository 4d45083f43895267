/** What lies in deploy/ agrees with the program: names, versions, limits. What only a container engine can tell is not here. */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { configVariables } from "@gfe/hub";
import { describe, expect, it } from "vitest";
import { parse, parseAllDocuments } from "yaml";
import { startWorld } from "./world.ts";

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));
const read = (path: string) => readFileSync(`${ROOT}${path}`, "utf8");
const hubVariables = new Set(configVariables.map(({ name }) => name));
/** What the program of the image is made of; `gfe` without the dashboard, which is built. */
const PROGRAM = ["agent", "cli", "hub", "ledger", "protocol", "sdk", "tracing"];

describe("the image", () => {
  const lines = read("deploy/Dockerfile").replace(/\\\n/g, " ").split("\n");
  const last = lines.slice(lines.findLastIndex((line) => line.startsWith("FROM")));

  it("has each package that the program imports, and knows each that the lock file has", () => {
    for (const name of readdirSync(`${ROOT}packages`))
      expect(lines).toContain(`COPY packages/${name}/package.json packages/${name}/`);
    const installed = lines.find((line) => line.startsWith("RUN npm install --omit=dev"))!;
    for (const name of PROGRAM) {
      expect(last).toContain(`COPY packages/${name} packages/${name}`);
      expect(installed).toContain(`--workspace @gfe/${name} `.trimEnd());
      for (const used of importsOf(`packages/${name}/src`))
        expect(PROGRAM, `${name} imports it`).toContain(used);
    }
  });

  it("runs the hub on the Node of the lock file, as nobody in particular, and is told to stop by SIGTERM itself", () => {
    const { dependencies } = JSON.parse(read("package.json")) as { dependencies: { node: string } };
    expect(lines).toContain(`ARG NODE=${dependencies.node}-bookworm-slim`);
    expect(last).toContain("USER 10001:10001");
    expect(last).toContain("STOPSIGNAL SIGTERM");
    const [, main] = /^ENTRYPOINT \["node", "\/app\/(.+)"\]$/m.exec(last.join("\n"))!;
    expect(existsSync(`${ROOT}${main}`)).toBe(true);
  });
});

/** The packages of ours that a folder's shipped sources name. */
function importsOf(folder: string): string[] {
  const sources = readdirSync(`${ROOT}${folder}`, { recursive: true, encoding: "utf8" }).filter(
    (path) => path.endsWith(".ts") && !path.endsWith(".test.ts") && !path.includes("testing/"),
  );
  const names = sources.flatMap((path) => [...read(`${folder}/${path}`).matchAll(/from "@gfe\/([a-z]+)/g)]);
  return [...new Set(names.map(([, name]) => name!))];
}

interface Service {
  image: string;
  mem_limit?: string;
  ports?: string[];
  volumes?: string[];
  environment?: Record<string, string>;
  depends_on?: Record<string, { condition: string }> | string[];
  healthcheck?: unknown;
  stop_grace_period?: string;
  networks: string[];
}

describe("compose.yaml", () => {
  const text = read("deploy/compose.yaml");
  const file = parse(text, { merge: true }) as {
    services: Record<string, Service>;
    volumes: Record<string, unknown>;
    networks: Record<string, { ipam?: { config: { subnet: string }[] } }>;
  };
  const services = Object.entries(file.services);

  it("asks for what env.example names, and env.example for nothing else", () => {
    const asked = new Set([...text.matchAll(/(?<!\$)\$\{([A-Z_]+)/g)].map(([, name]) => name!));
    const named = read("deploy/env.example").match(/^[A-Z_]+(?==)/gm)!;
    expect([...asked].sort()).toEqual([...named].sort());
  });

  it("publishes the proxy and Grafana only, on loopback, and bounds each service's memory and version", () => {
    const published = services.flatMap(([name, { ports = [] }]) =>
      ports.map((port) => [name, port] as const),
    );
    expect(published.map(([name]) => name)).toEqual(["proxy", "grafana"]);
    for (const [, port] of published) expect(port).toMatch(/^127\.0\.0\.1:/);
    for (const [name, { image, mem_limit }] of services) {
      expect(mem_limit, name).toMatch(/^\d+[mg]$/);
      if (!name.startsWith("hub-")) expect(image, name).toMatch(/:v?\d+\.\d+/);
    }
  });

  it("names volumes, networks, services and files that are there", () => {
    for (const [name, { volumes = [], networks, depends_on = {} }] of services) {
      for (const network of networks) expect(file.networks, name).toHaveProperty(network);
      for (const volume of volumes) {
        const [source] = volume.split(":") as [string];
        if (source.startsWith("./")) expect(existsSync(`${ROOT}deploy/${source}`), volume).toBe(true);
        else expect(file.volumes, name).toHaveProperty(source);
      }
      for (const [other, { condition }] of Object.entries(Array.isArray(depends_on) ? {} : depends_on)) {
        const needed = file.services[other];
        expect(needed, `${name} waits for ${other}`).toBeDefined();
        // The hubs' check is in their image.
        if (condition === "service_healthy" && !other.startsWith("hub-"))
          expect(needed!.healthcheck, other).toBeDefined();
      }
    }
  });

  it("gives both hubs the same settings, which hubs know, time to drain, and the proxy's network to believe", () => {
    const [one, two] = [file.services["hub-1"]!, file.services["hub-2"]!];
    expect(two.environment).toEqual(one.environment);
    for (const name of Object.keys(one.environment!)) expect(hubVariables, name).toContain(name);
    for (const needed of ["DATABASE_URL", "REDIS_URL", "GFE_SECRET", "GFE_HUB_KEY"])
      expect(one.environment).toHaveProperty(needed);
    expect(Number.parseInt(one.stop_grace_period!, 10) * 1000).toBeGreaterThan(
      Number(one.environment!.GFE_DRAIN_MS),
    );
    expect(one.environment!.GFE_TRUSTED_PROXIES).toBe(file.networks.door!.ipam!.config[0]!.subnet);
    const beside = services.filter(([, { networks }]) => networks.includes("door")).map(([name]) => name);
    expect(beside.sort()).toEqual(["hub-1", "hub-2", "proxy"]);
  });

  it("keeps the file with the secrets out of the repository and out of the image", () => {
    expect(execFileSync("git", ["check-ignore", "deploy/.env"], { cwd: ROOT, encoding: "utf8" }).trim()).toBe(
      "deploy/.env",
    );
    const [first, ...allowed] = read("deploy/Dockerfile.dockerignore").trim().split("\n");
    expect(first).toBe("*");
    expect(allowed).not.toContain("!deploy");
  });
});

describe("kubernetes/", () => {
  const folder = "deploy/kubernetes";
  const kustomization = parse(read(`${folder}/kustomization.yaml`));
  const objects = (kustomization.resources as string[]).flatMap((path) =>
    parseAllDocuments(read(`${folder}/${path}`)).map((document) => {
      expect(document.errors).toEqual([]);
      return document.toJS();
    }),
  );
  const [deployment] = objects.filter(({ kind }) => kind === "Deployment");
  const pod = deployment.spec.template.spec;
  const [hub] = pod.containers;
  const settings = Object.fromEntries(
    (kustomization.configMapGenerator[0].literals as string[]).map(
      (line) => line.split("=") as [string, string],
    ),
  );

  it("uses every file there is, and settings that hubs know", () => {
    const files = readdirSync(`${ROOT}${folder}`).filter((name) => name !== "kustomization.yaml");
    expect(files.sort()).toEqual([...kustomization.resources].sort());
    for (const name of Object.keys(settings)) expect(hubVariables, name).toContain(name);
  });

  it("never has fewer hubs than it should, and gives one that leaves the time to drain", () => {
    expect(deployment.spec.replicas).toBeGreaterThanOrEqual(2);
    expect(deployment.spec.strategy.rollingUpdate).toMatchObject({ maxUnavailable: 0, maxSurge: 1 });
    const [, waitMs] = /setTimeout\(.*, (\d+)\)/.exec(hub.lifecycle.preStop.exec.command.at(-1))!;
    expect(pod.terminationGracePeriodSeconds * 1000).toBeGreaterThan(
      Number(waitMs) + Number(settings.GFE_DRAIN_MS),
    );
    expect(hub.readinessProbe.httpGet.path).toBe("/readyz");
    expect(hub.livenessProbe.httpGet.path).toBe("/healthz");
  });

  it("is let in where the restricted standard is enforced", () => {
    expect(pod.securityContext).toMatchObject({
      runAsNonRoot: true,
      seccompProfile: { type: "RuntimeDefault" },
    });
    expect(hub.securityContext).toEqual({
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ["ALL"] },
    });
  });

  it("has services, budgets and policies that mean the hub's pods", () => {
    const { labels } = deployment.spec.template.metadata;
    const named = (kind: string) =>
      objects.find((object) => object.kind === kind && object.metadata.name === "hub").spec;
    expect(named("Service").selector).toEqual(labels);
    expect(named("PodDisruptionBudget").selector.matchLabels).toEqual(labels);
    expect(named("NetworkPolicy").podSelector.matchLabels).toEqual(labels);
    expect(deployment.spec.selector.matchLabels).toEqual(labels);
  });
});

describe("prometheus/ and grafana/", () => {
  const alerts = parse(read("deploy/prometheus/alerts.yml")).groups.flatMap(
    ({ rules }: { rules: { alert: string; expr: string }[] }) => rules,
  ) as { alert: string; expr: string }[];
  const { panels } = JSON.parse(read("deploy/grafana/dashboards/hub.json")) as {
    panels: { title: string; targets: { expr: string }[] }[];
  };

  it("ask for metrics and labels that a hub has", async () => {
    const world = await startWorld();
    try {
      const { body } = await world.call("GET", "/metrics").then(() => world.call("GET", "/metrics"));
      const names = new Set([...String(body).matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name!));
      const queries = [
        ...alerts.map(({ expr }) => expr),
        ...panels.flatMap(({ targets }) => targets.map(({ expr }) => expr)),
      ];
      const asked = new Set(queries.flatMap((query) => query.match(/\bgfe_\w+/g) ?? []));
      expect(asked.size).toBeGreaterThan(8);
      for (const name of asked) expect(names).toContain(name.replace(/_(bucket|count|sum)$/, ""));
      for (const label of ["method", "route", "status"])
        expect(body).toMatch(new RegExp(`^gfe_http_request_seconds_count\\{.*\\b${label}="`, "m"));
    } finally {
      await world.end();
    }
  });

  it("have a line in the runbook for each alert, and a test that it is raised", () => {
    const runbook = read("docs/operations.md");
    const tests = read("deploy/prometheus/alerts.test.yml");
    for (const { alert } of alerts) {
      expect(runbook).toContain(`\n| ${alert} | `);
      expect(tests).toMatch(new RegExp(`- alertname: ${alert}\\n`));
    }
  });

  it("are raised when they should, by Prometheus itself, and its configuration is valid", () => {
    const found = spawnSync("promtool", ["--version"]).error === undefined;
    // .ci/run brings it.
    if (process.env.CI) expect(found, "promtool is there").toBe(true);
    if (!found) return;
    for (const args of [
      ["check", "config", "prometheus.yml"],
      ["test", "rules", "alerts.test.yml"],
    ]) {
      const { status, stdout, stderr } = spawnSync("promtool", args, {
        cwd: `${ROOT}deploy/prometheus`,
        encoding: "utf8",
        timeout: 20_000,
      });
      expect(status, stdout + stderr).toBe(0);
    }
  });
});
