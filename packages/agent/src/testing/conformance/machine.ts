import { createSigner, fromBase64Url, generateKeyPair, toBase64Url, verifySignature } from "@gfe/protocol";
import { delay } from "../../host.ts";
import { type ConformanceCase, check, rejection, same } from "./case.ts";

const KNOWN_SIGNATURE =
  "v6Ko6yT78Gu6w-IMsbxlziadnHv-MJvw_0e2aVs8wkm7RNAY6nKjy6eaMNTV33rNZKPc3CC4mt6vzgjMGkIRAA";

export const machineCases: readonly ConformanceCase[] = [
  {
    name: "run: exit status and output are told, a missing program is absent, a slow one is ended",
    async run({ host }) {
      const shell = host.platform === "win32" ? ["cmd.exe", "/c"] : ["/bin/sh", "-c"];
      const run = (script: string, timeoutMs = 10_000) =>
        host.run(shell[0]!, [shell[1]!, script], { timeoutMs });
      const fine = await run("echo hello");
      check(fine.type === "ran" && fine.exitCode === 0 && fine.stdout.trim() === "hello", "echo");
      const failed = await run("exit 3");
      check(failed.type === "ran" && failed.exitCode === 3, "exit 3");
      same((await host.run("gfe-no-such-program", [], { timeoutMs: 1000 })).type, "absent", "missing");
      if (host.platform === "win32") return;
      const startedMs = host.nowMs();
      same((await run("exec sleep 60", 100)).type, "timeout", "slow");
      check(host.nowMs() - startedMs < 5_000, "it was waited for");
    },
  },
  {
    name: "clock: callbacks come once, in the order of their times, and not when called off",
    async run({ host }) {
      const seen: string[] = [];
      host.after(60, () => seen.push("60"));
      host.after(20, () => seen.push("20"));
      host.after(0, () => seen.push("0"));
      const callOff = host.after(30, () => seen.push("never"));
      callOff();
      callOff();
      const startedMs = host.nowMs();
      await delay(host, 120);
      same(seen.join(), "0,20,60", "order");
      const tookMs = host.nowMs() - startedMs;
      check(tookMs >= 119 && tookMs < 2_000, `120 ms took ${tookMs}`);
      check(Math.abs(host.nowMs() - Date.now()) < 5_000, "milliseconds since 1970");
    },
  },
  {
    name: "clock: soon comes after what is at hand, in order",
    async run({ host }) {
      const seen: string[] = [];
      await new Promise<void>((resolve) => {
        host.soon(() => {
          seen.push("soon");
          void Promise.resolve().then(() => seen.push("promised in soon"));
          host.soon(() => resolve());
        });
        void Promise.resolve().then(() => seen.push("promise"));
        seen.push("now");
      });
      same(seen.join(), "now,promise,soon,promised in soon", "order");
    },
  },
  {
    name: "clock: random numbers differ and stay within their bounds",
    async run({ host }) {
      const numbers = Array.from({ length: 100 }, () => host.random());
      check(
        numbers.every((number) => number >= 0 && number < 1),
        "bounds",
      );
      check(new Set(numbers).size > 90, "they differ");
    },
  },
  {
    name: "keys: signatures are those of Ed25519, and checked",
    async run() {
      // The first test vector of RFC 8032 as the key; Ed25519 has one signature for each message.
      const seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
      const bytes = [..."302e020100300506032b657004220420", ...seed].join("").match(/../g)!;
      const pair = {
        publicKey: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        privateKey: toBase64Url(Uint8Array.from(bytes, (hex) => Number.parseInt(hex, 16))),
      };
      const value = { purpose: "gfe-conformance", text: "Grüße", n: 1 };
      const signature = await (await createSigner(pair)).sign(value);
      same(signature, KNOWN_SIGNATURE, "signature");
      check(await verifySignature(pair.publicKey, value, signature), "it verifies");
      check(!(await verifySignature(pair.publicKey, { ...value, n: 2 }, signature)), "not for another value");
      check(!(await verifySignature("short", value, signature)), "not with a broken key");
      const fresh = await generateKeyPair();
      same(fromBase64Url(fresh.publicKey).length, 32, "length of a public key");
      const own = await (await createSigner(fresh)).sign(value);
      check(await verifySignature(fresh.publicKey, value, own), "a fresh key signs");
      await rejection(createSigner({ ...fresh, privateKey: "AAAA" }), "a broken private key");
    },
  },
];
