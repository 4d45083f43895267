import { describe, expect, test } from "vitest";
import { gfe } from "./testing/gfe.ts";

describe("--help", () => {
  test.concurrent.each<[string, string[]]>([
    [
      "",
      [
        "hub",
        "up",
        "chat",
        "models",
        "price",
        "ledger",
        "backup",
        "restore",
        "config",
        "demo",
        "dev",
        "--version",
      ],
    ],
    ["hub", ["--no-build", "gfe config check", "PORT=9000"]],
    [
      "up",
      [
        "--hub",
        "--token",
        "--model-path",
        "--engine",
        "--no-detect",
        "--slots",
        "--name",
        "--price",
        "--region",
        "--data-policy",
        "--alias",
        "--json",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
      ],
    ],
    ["chat", ["--hub", "--key", "--model", "--json", "GFE_API_KEY"]],
    ["models", ["--hub", "--json"]],
    ["price", ["list", "set", "unset", "scope `manage`", "gfe price set"]],
    [
      "price set",
      ["--model", "--node", "--request", "--input", "--cached", "--output", "--minimum", "--batch-discount"],
    ],
    ["ledger", ["verify"]],
    ["ledger verify", ["--hub", "--session", "--json", "DATABASE_URL"]],
    ["backup", ["--to", "--json", "DATABASE_URL", "GFE_DATA_DIR", "secrets", "gfe backup --to /backups"]],
    ["restore", ["<file>", "--verify", "--into", "--json", "DATABASE_URL", "GFE_DATA_DIR", "exit status 1"]],
    ["config", ["check"]],
    ["config check", ["--json", "exit status 1"]],
    ["demo", ["--stay", "--download"]],
    ["dev", ["reload"]],
  ])("gfe %s tells what there is to say, and that is no failure", async (command, words) => {
    const { code, stdout, stderr } = await gfe([...command.split(" ").filter(Boolean), "--help"]);
    expect([code, stderr]).toEqual([0, ""]);
    for (const word of words) expect(stdout).toContain(word);
    expect(stdout).toMatch(`Usage: gfe${command === "" ? "" : ` ${command}`} `);
  });
});

test("a bad value from the environment names its variable and its option", async () => {
  const { code, stderr } = await gfe(["up"], { GFE_REGION: "EU" });
  expect([code, stderr]).toEqual([
    1,
    expect.stringMatching(/--region <region>' value 'EU' from env 'GFE_REGION'/),
  ]);
});

test("a collector that cannot be sent to is named before a node joins", async () => {
  const { code, stderr } = await gfe(["up"], {
    OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:9",
    OTEL_EXPORTER_OTLP_PROTOCOL: "grpc",
  });
  expect([code, stderr]).toEqual([
    1,
    "gfe: OTEL_EXPORTER_OTLP_PROTOCOL must be one of http/protobuf, http/json\n",
  ]);
});

test("--version tells it", async () => {
  expect(await gfe(["--version"])).toEqual({ code: 0, stdout: "0.1.0\n", stderr: "" });
});

describe("what is not understood ends with a status, a hint and no stack", () => {
  test.concurrent.each<[string[], RegExp]>([
    [[], /Usage: gfe/],
    [["chta"], /unknown command 'chta'\n\(Did you mean chat\?\)[\s\S]*Usage: gfe/],
    [["ledger", "verfy"], /unknown command 'verfy'[\s\S]*Did you mean verify/],
    [["models", "--jsn"], /unknown option '--jsn'[\s\S]*Did you mean --json/],
    [["up", "--slots", "none"], /--slots[\s\S]*none is not a whole number above zero/],
    [["up", "--slots", "0"], /0 is not a whole number above zero/],
    [["up", "--price", "much"], /--price[\s\S]*"much" is not a price/],
    [["up", "--region", "EU West"], /--region <region>'[\s\S]*letters, digits and hyphens/],
    [["up", "--data-policy", "some"], /--data-policy <policy>'[\s\S]*none, retains/],
    [["up", "--alias", "fast"], /--alias <name=model>'[\s\S]*NAME=MODEL/],
    [["up", "--alias", "a=x", "--alias", "a=y"], /--alias <name=model>'[\s\S]*two models, x and y/],
    [["up", "--engine"], /--engine <url>' argument missing/],
    [["demo", "now"], /too many arguments/],
  ])("gfe %j", async (args, hint) => {
    const { code, stdout, stderr } = await gfe(args);
    expect([code, stdout]).toEqual([1, ""]);
    expect(stderr).toMatch(hint);
    expect(stderr).not.toMatch(/^\s+at /m);
  });
});

describe("without what it needs", () => {
  const NOBODY = "http://127.0.0.1:9";

  test("chat asks for a key", async () => {
    const { code, stderr } = await gfe(["chat", "hi"]);
    expect([code, stderr]).toEqual([1, expect.stringContaining("GFE_API_KEY")]);
  });

  test.concurrent.each<[string[], Record<string, string>]>([
    [["chat", "hi", "--hub", NOBODY], { GFE_API_KEY: "gfe_sk_x" }],
    [["models", "--hub", NOBODY], {}],
    [["price", "set", "--input", "1"], { GFE_API_KEY: "gfe_sk_x", GFE_HUB: NOBODY }],
    [["models"], { GFE_HUB: NOBODY }],
    [["ledger", "verify", "--hub", NOBODY, "--session", "x"], {}],
  ])("gfe %j says that no hub answers", async (args, env) => {
    const { code, stdout, stderr } = await gfe(args, env);
    expect([code, stdout]).toEqual([1, ""]);
    expect(stderr).toMatch(/^gfe: .*hub.* cannot be reached/im);
    expect(stderr).not.toMatch(/^\s+at /m);
  });

  test("an address that is none is told as such", async () => {
    const { code, stderr } = await gfe(["ledger", "verify", "--hub", "nonsense", "--session", "x"]);
    expect([code, stderr]).toEqual([1, "gfe: nonsense is not an http(s) address\n"]);
  });
});
