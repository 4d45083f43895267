/** The built dashboard in a real browser, served by a real hub with one scripted node. */
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import {
  type Agent,
  createMemoryFiles,
  createNodeHost,
  createScriptedEngine,
  startAgent,
} from "../packages/agent/src/index.ts";
import { buildDashboard } from "../packages/cli/src/dashboard.ts";
import { PASSWORD, postJson, startTestHub, type TestHub } from "../packages/hub/src/testing/test-hub.ts";
import { makeReleaseKey } from "../scripts/release/keys.ts";
import { signRelease } from "../scripts/release/sign.ts";
import { findBrowser, launchBrowser } from "./browser.ts";

const executable = findBrowser();
const WAIT_MS = 20_000;
/** What the page may say on its console: that nobody was signed in when it asked. */
const EXPECTED_ON_CONSOLE = /status of 401/;

describe.skipIf(executable === null)("the dashboard", () => {
  let hub: TestHub;
  let agent: Agent;
  /** The session of who owns the node. */
  let provider: string;
  let browser: Browser;
  let context: BrowserContext;
  let page: Page;
  let complaints: string[];

  beforeAll(async () => {
    await buildDashboard();
    hub = await startTestHub();
    provider = (await hub.signUp()).cookie;
    agent = await joinScriptedNode(hub, provider);
    browser = await launchBrowser(executable!);
  }, 120_000);
  afterAll(async () => {
    await browser?.close();
    await agent?.stop();
    await hub?.close();
  });

  beforeEach(async () => {
    context = await browser.newContext({ baseURL: hub.url, viewport: { width: 1100, height: 800 } });
    context.setDefaultTimeout(WAIT_MS);
    page = await context.newPage();
    complaints = [];
    page.on("pageerror", (error) => complaints.push(error.message));
    page.on("console", (message) => {
      if (message.type() === "error" && !EXPECTED_ON_CONSOLE.test(message.text()))
        complaints.push(message.text());
    });
  });
  afterEach(async () => {
    await context.close();
    expect(complaints).toEqual([]); // nothing thrown, nothing that the content security policy refused
  });

  it("shows live numbers and labels what is scripted, to anybody", async () => {
    await page.goto("/");
    await page.getByText("● Live").waitFor();
    const row = page.getByRole("row", { name: /story/ });
    await row.getByText("scripted").waitFor();
    await row.getByText("1.00 a request").waitFor();
    await row.getByRole("cell", { name: "new", exact: true }).waitFor(); // nobody knows its node yet
  });

  it("tells a provider what its node's reputation is made of, and what would raise it", async () => {
    await signIn(hub, context, provider);
    await page.goto("/nodes");
    await page.getByText("attic: what its reputation is made of").click();
    const model = page.getByRole("article", { name: "Reputation for story" });
    await model.getByText("everybody begins at 64").waitFor();
    for (const part of ["Jobs done as asked", "Time connected", "Speed against promise"])
      await model.getByRole("row", { name: new RegExp(`^${part} \\d+ % \\d+ % of the sum`) }).waitFor();
    for (const part of ["Disputes", "Checks passed"])
      await model.getByRole("row", { name: new RegExp(`^${part} \\d+ % multiplies the sum`) }).waitFor();
    await model.getByText("more jobs to be no newcomer any more").waitFor();
  });

  it("tells a provider why its node is not chosen, and sends it a test request", async () => {
    await signIn(hub, context, provider);
    await page.goto("/nodes");
    await page.getByText("attic: why it is chosen, or not").click();
    const model = page.getByRole("article", { name: "Requests for story" });
    await model.getByRole("row", { name: /^nobody asked for this model in the last day/ }).waitFor();
    await model.getByRole("button", { name: "Send story a test request" }).click();
    await model.getByText("✓ it answered as it should: first token after").waitFor();
  });

  it("takes a person from registering to a paid answer, with its job and ledger rows", async () => {
    await page.goto("/playground");
    await page.getByRole("link", { name: "Sign in or register" }).click();
    await register(page);
    await page.getByRole("heading", { name: "Playground" }).waitFor();

    await page.getByLabel("Model").waitFor();
    await page.getByLabel("Your message").fill("Hello");
    await page.getByRole("button", { name: "Send" }).click();
    await page.getByTestId("streaming").getByText("Once").waitFor(); // before the end
    expect(await page.getByTestId("cost").count()).toBe(0);
    expect(await page.getByTestId("cost").textContent()).toBe("attic · 40 tokens · 1.00 credits");

    await page.getByRole("link", { name: "Jobs" }).click();
    await page.getByRole("row", { name: /✓ completed story attic .* 1\.00/ }).waitFor();

    await page.getByRole("link", { name: "Ledger" }).click();
    await page.getByRole("row", { name: /^-0\.95/ }).waitFor();
    await page.getByRole("row", { name: /^-0\.05 fee/ }).waitFor();
    await page.getByRole("row", { name: /^\+100\.00 signup/ }).waitFor();
    expect(await page.getByTestId("available").textContent()).toBe("99.00");
    expect(await page.getByTestId("held").textContent()).toBe("0.00");
  });

  it("lets a consumer dispute an answer, and tells its provider", async () => {
    await signUp(hub, context);
    await page.goto("/playground");
    await page.getByLabel("Your message").fill("Hello");
    await page.getByRole("button", { name: "Send" }).click();
    await page.getByTestId("cost").waitFor();
    await page.goto("/jobs");
    await page.getByRole("button", { name: /^Dispute the job/ }).click();
    await page.getByLabel("Reason").selectOption("cut_off");
    await page.getByLabel("Note for the provider").fill("It ends in the middle.");
    await page.getByRole("button", { name: "Dispute it" }).click();
    await page.getByRole("row", { name: /✓ completed story .* disputed$/ }).waitFor();

    await signIn(hub, context, provider);
    await page.goto("/nodes");
    await page
      .getByRole("row", { name: /^attic story It was cut off It ends in the middle\. 0\.50/ })
      .waitFor();
    await page.getByText("attic: what its reputation is made of").click();
    await page.getByText("a consumer disputed an answer as cut off").waitFor();
  });

  it("lists what was submitted and waits, with its place", async () => {
    const { userId, cookie } = await hub.signUp();
    await signIn(hub, context, cookie);
    await hub.pool.query(
      `INSERT INTO deferred_jobs (id, user_id, payer, lane, kind, model, priority, body, expires_at, not_before)
       SELECT 'djob_' || n, $1, '{}', 'account:' || $1, 'chat', 'story', 'batch', '{}', now() + interval '1 day',
         now() + interval '1 hour' FROM generate_series(1, 2) n`,
      [userId],
    );
    await page.goto("/jobs");
    await page.getByRole("row", { name: "… queued, place 2 of yours story" }).waitFor();
    await page.getByLabel("State").selectOption("queued");
    await page.getByRole("row", { name: "… queued, place 1 of yours story" }).waitFor();
  });

  it("stops an answer half-way, keeps what came and says so", async () => {
    await signUp(hub, context);
    await page.goto("/playground");
    await page.getByLabel("Your message").fill("Hello");
    await page.getByRole("button", { name: "Send" }).click();
    await page.getByTestId("streaming").getByText("Once").waitFor();
    await page.getByRole("button", { name: "Stop" }).click();
    await page.getByText("stopped by you").waitFor();
    await page.getByRole("link", { name: "Jobs" }).click();
    await page.getByRole("row", { name: /cancelled story/ }).waitFor(); // told by the live stream
  });

  it("shows a key once, lets it work, and revokes it", async () => {
    await signUp(hub, context);
    await page.goto("/keys");
    await page.getByLabel("Label").fill("laptop");
    await page.getByLabel("Budget in credits").fill("a lot");
    await page.getByRole("button", { name: "Make a key" }).click();
    expect(await page.getByRole("alert").textContent()).toContain("The budget must be an amount");
    expect(await page.getByLabel("Label").inputValue()).toBe("laptop");
    await page.getByLabel("Budget in credits").fill("2.5");
    await page.getByLabel("Pays at most, a request").fill("3");
    await page.getByLabel("Requests a minute").fill("20");
    await page.getByRole("button", { name: "Make a key" }).click();

    const secret = (await page.getByTestId("secret").textContent())!;
    expect(secret).toMatch(/^gfe_sk_/);
    const me = () => fetch(`${hub.url}/api/v1/me`, { headers: { authorization: `Bearer ${secret}` } });
    expect((await me()).status).toBe(200);
    await page.reload();
    await page
      .getByRole("row", { name: /laptop .* inference, read 0\.00 of 2\.50 3\.00 a request 20 requests/ })
      .waitFor();
    expect(await page.getByTestId("secret").count()).toBe(0);

    await page.getByRole("button", { name: "Revoke laptop" }).click();
    await page.getByRole("button", { name: "Revoke laptop for good" }).click();
    await page.getByRole("cell", { name: "revoked" }).waitFor();
    expect((await me()).status).toBe(401);
  });

  it("makes an agent token once, and shows a person's own nodes and earnings", async () => {
    await signUp(hub, context);
    await page.goto("/nodes");
    await page.getByText("Waiting for your first machine").waitFor();
    await page.getByLabel("Label").fill("attic");
    await page.getByRole("button", { name: "Make a token" }).click();
    expect(await page.getByTestId("secret").textContent()).toMatch(/^gfe_at_/);
    await page.getByText("jobs served in 30 days").waitFor();
  });

  it("approves a machine by its code, after signing in", async () => {
    const request = {
      client_id: "gfe-agent",
      scope: "agent host=attic-pc gpu=RTX%204090%3Cb%3E from=9.9.9.9",
    };
    const asked = await postJson(`${hub.url}/api/auth/device/code`, request);
    const code = (await asked.json()) as { device_code: string; user_code: string };
    await page.goto(`/device?user_code=${code.user_code}`);
    await page.getByRole("link", { name: "Sign in or register" }).click();
    await register(page);
    await page.getByText("attic-pc").waitFor();
    await page.getByText("RTX 4090<b>").waitFor();
    await page.getByText(/^(::ffff:)?127\.0\.0\.1$/).waitFor(); // not where it says that it is
    await page.getByText("Did somebody send you this link").waitFor();
    await page.getByRole("button", { name: "Approve" }).click();
    await page.getByText("Approved: the machine goes on").waitFor();
    const exchange = { device_code: code.device_code, client_id: "gfe-agent", label: "attic-pc" };
    const granted = await postJson(`${hub.url}/api/v1/device/token`, exchange);
    expect(await granted.json()).toMatchObject({ agent_token: expect.stringMatching(/^gfe_at_/) });
  });

  it("offers each visitor the agent for its machine, from a signed release only", async () => {
    const directory = mkdtempSync(join(tmpdir(), "gfe-e2e-release-"));
    const other = await startTestHub({ GFE_DOWNLOADS_DIR: directory });
    try {
      await page.goto(`${other.url}/download`);
      await page.getByText("This hub has no downloads").waitFor();
      await page.getByText(`npx gpu-for-everyone up --hub ${other.url}`).waitFor();
      expect(complaints.splice(0)).toEqual([expect.stringContaining("status of 404")]); // which the page asks for

      const names = ["gfe-agent-slim-macos-arm64", "gfe-agent-slim-linux-x64"];
      const sha256 = createHash("sha256").update("a program").digest("hex");
      const files = names.map((name) => {
        const [, , , os, arch] = name.split("-");
        writeFileSync(join(directory, name), "a program");
        return { ...{ name, os, arch, kind: "slim" }, bytes: 9, compressed_bytes: 5, sha256 };
      });
      writeFileSync(join(directory, "manifest.json"), JSON.stringify({ version: "1.2.3", files }));
      writeFileSync(join(directory, "SHA256SUMS"), names.map((name) => `${sha256}  ${name}\n`).join(""));
      const key = makeReleaseKey(join(directory, "release.key"));
      signRelease({ directory, key, nowS: Math.floor(Date.now() / 1000), expiresDays: 1 });

      await page.reload();
      await page.getByRole("heading", { name: "Version 1.2.3, all files" }).waitFor();
      await page.getByText(`curl -fsSL ${other.url}/install.sh | sh`).waitFor();
      const first = page.getByRole("row").nth(1);
      await first.getByText("✓ yours: Linux x64, the agent alone").waitFor();
      const file = page.waitForEvent("download");
      await first.getByRole("link", { name: names[1]!, exact: true }).click();
      expect(readFileSync(await (await file).path(), "utf8")).toBe("a program");
    } finally {
      await other.close();
      rmSync(directory, { recursive: true, force: true });
    }
  });

  it("announces a wrong password, and takes nobody to another site afterwards", async () => {
    const { email } = await hub.signUp();
    await page.goto(`/sign-in?back=${encodeURIComponent("//elsewhere.example/x")}`);
    await page.getByLabel("E-mail").fill(email);
    await page.getByLabel("Password").fill("not the password");
    await page.getByRole("button", { name: "Sign in" }).click();
    expect(await page.getByRole("alert").textContent()).toContain("Invalid email or password");
    await page.getByLabel("Password").fill(PASSWORD);
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByRole("button", { name: "Sign out" }).waitFor();
    await page.waitForURL(`${hub.url}/`);
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByRole("link", { name: "Sign in" }).waitFor();
  });

  it("sets a price beside what others ask, shows it to everybody at once, and unsets it", async () => {
    await signIn(hub, context, provider);
    await page.goto("/prices");
    await page.getByRole("row", { name: "story attic 1.00 a request the node itself –" }).waitFor();
    await page.getByLabel("Million tokens in", { exact: true }).fill("cheap");
    await page.getByRole("button", { name: "Set the price" }).click();
    expect(await page.getByRole("alert").textContent()).toContain("Million tokens in: write an amount");
    await page.getByLabel("Model", { exact: true }).selectOption("story");
    await page.getByLabel("Million tokens in", { exact: true }).fill("0.2");
    await page.getByLabel("Percent off for batches").fill("50");
    await page.getByRole("button", { name: "Set the price" }).click();
    const price = "0.20 / M in, batches 50 % off";
    await page.getByRole("row", { name: `story attic ${price} you, for the model` }).waitFor();
    const anybody = await context.newPage();
    await anybody.goto("/");
    await anybody.getByRole("row", { name: /story/ }).getByText(price).waitFor();
    await page.getByRole("button", { name: "Unset the price of story" }).click();
    await page.getByText("None: your nodes ask what they announce.").waitFor();
    await anybody.getByRole("row", { name: /story/ }).getByText("1.00 a request").waitFor(); // told live
  });

  it("fits a screen of 360 px, with every page reachable and every field labelled", async () => {
    await signUp(hub, context);
    await page.setViewportSize({ width: 360, height: 740 });
    for (const path of [
      "/",
      "/playground",
      "/jobs",
      "/keys",
      "/nodes",
      "/prices",
      "/ledger",
      "/device",
      "/sign-in",
    ]) {
      await page.goto(path);
      await page.getByRole("heading", { level: 1 }).waitFor();
      const seen = await page.evaluate(() => ({
        width: document.documentElement.scrollWidth,
        unlabelled: [...document.querySelectorAll("input, select, textarea")].filter(
          (field) => !(field as HTMLInputElement).labels?.length,
        ).length,
        outside: [...document.querySelectorAll("nav a, nav button")].filter((link) => {
          const { left, right, width } = link.getBoundingClientRect();
          return width === 0 || left < 0 || right > window.innerWidth;
        }).length,
      }));
      expect({ path, ...seen }).toEqual({ path, width: 360, unlabelled: 0, outside: 0 });
    }
  });

  it("says that it is reconnecting when the hub goes away", async () => {
    await page.goto("/");
    await page.getByText("● Live").waitFor();
    await agent.stop();
    await hub.stop();
    await page.getByText("◌ Reconnecting").waitFor();
    complaints.length = 0; // the browser tells of every try
  });
});

async function joinScriptedNode(hub: TestHub, cookie: string): Promise<Agent> {
  const session = { cookie, origin: hub.url };
  const made = await postJson(`${hub.url}/api/v1/agent-tokens`, { label: "attic" }, session);
  const { secret } = (await made.json()) as { secret: string };
  const host = createNodeHost({ files: createMemoryFiles(), configDir: "/config", stateDir: "/state" });
  const text = Array.from({ length: 40 }, (_, i) => (i === 0 ? "Once" : ` upon ${i}`));
  const engine = createScriptedEngine(host, { models: [{ name: "story" }], text, deltas: 40, paceMs: 40 });
  return startAgent({ host, hubUrl: hub.url, token: secret, engines: [engine], gpus: [], name: "attic" });
}

/** Gives the browser the session of a new account. */
async function signUp(hub: TestHub, context: BrowserContext): Promise<void> {
  await signIn(hub, context, (await hub.signUp()).cookie);
}

async function signIn(hub: TestHub, context: BrowserContext, cookie: string): Promise<void> {
  const cookies = cookie.split("; ").map((pair) => {
    const at = pair.indexOf("=");
    return { name: pair.slice(0, at), value: pair.slice(at + 1), url: hub.url };
  });
  await context.addCookies(cookies);
}

let registered = 0;
async function register(page: Page): Promise<void> {
  await page.getByRole("button", { name: "I have no account yet" }).click();
  await page.getByLabel("E-mail").fill(`dashboard${++registered}@example.test`);
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Register" }).click();
}
