/** What the core takes for granted of a runtime. */
import { type ConformanceCase, check, same } from "./case.ts";

/** Bytes, and what the Encoding standard makes of them. */
const BROKEN_UTF8: readonly (readonly [readonly number[], string])[] = [
  [[0x61, 0xff, 0x62], "a\ufffdb"],
  [[0xe2, 0x82, 0x41], "\ufffdA"],
  [[0xe2, 0x82], "\ufffd"],
  [[0xf0, 0x9f, 0x8c, 0x41], "\ufffdA"],
  [[0xc0, 0x80], "\ufffd\ufffd"],
  [[0xed, 0xa0, 0x80], "\ufffd\ufffd\ufffd"],
  [[0xf4, 0x90, 0x80, 0x80], "\ufffd\ufffd\ufffd\ufffd"],
  [[0xef, 0xbb, 0xbf, 0x61], "a"],
  [[0xf0, 0x9f, 0xf0, 0x9f, 0x8c, 0x8d], "\ufffd🌍"],
];

export const languageCases: readonly ConformanceCase[] = [
  {
    name: "text: pieces that cut a character are decoded as one, and broken bytes are marked",
    async run() {
      const bytes = new TextEncoder().encode("aé世🌍z");
      for (let cut = 0; cut <= bytes.length; cut++) {
        const decoder = new TextDecoder();
        const text =
          decoder.decode(bytes.subarray(0, cut), { stream: true }) +
          decoder.decode(bytes.subarray(cut), { stream: true }) +
          decoder.decode();
        same(text, "aé世🌍z", `cut at ${cut}`);
      }
      for (const [broken, text] of BROKEN_UTF8)
        same(new TextDecoder().decode(Uint8Array.from(broken)), text, `${broken}`);
      const target = new Uint8Array(8);
      const { read, written } = new TextEncoder().encodeInto("aé🌍", target.subarray(1, 5));
      same(`${read} ${written} ${target.join()}`, "2 3 0,97,195,169,0,0,0,0", "encodeInto");
    },
  },
  {
    name: "text: patterns know properties of characters",
    async run() {
      same("p\u0007Cc\u009f{}".replace(/\p{Cc}/gu, ""), "pCc{}", "control characters");
      same("a\u200bCf\u{e0020}p🌍".replace(/[\p{Cc}\p{Cf}\u2028]|\ufe0f/gu, ""), "aCfp🌍", "invisible ones");
      check(/[\p{Mn}\p{Me}]/u.test("\u0301") && !/[\p{Mn}\p{Me}]/u.test("M"), "marks");
    },
  },
  {
    name: "addresses: URLs are read as browsers read them",
    async run() {
      const url = new URL("HTTPS://User:Pass@Example.ORG:443/a/b?c=d#e");
      same(url.href, "https://User:Pass@example.org/a/b?c=d#e", "href");
      same(url.origin, "https://example.org", "origin");
      same(new URL("http://[::1]:8080").host, "[::1]:8080", "IPv6");
      same(new URL("http://[::1]:8080").hostname, "[::1]", "IPv6 host name");
      same(new URL("http://x").pathname, "/", "path");
      for (const wrong of ["", "x", "http://", "http://a b", "http://x:99999"])
        same(URL.parse(wrong), null, wrong);
    },
  },
  {
    name: "signals: an abort is told to each listener once, and to unions",
    async run() {
      const controller = new AbortController();
      const other = new AbortController();
      const union = AbortSignal.any([other.signal, controller.signal]);
      const seen: string[] = [];
      const gone = () => seen.push("gone");
      controller.signal.addEventListener("abort", () => seen.push("one"), { once: true });
      controller.signal.addEventListener("abort", gone);
      controller.signal.removeEventListener("abort", gone);
      union.addEventListener("abort", () => seen.push(`union ${union.reason === "why"}`));
      controller.abort("why");
      controller.abort("again");
      other.abort("late");
      same(seen.join(), "one,union true", "seen");
      check(union.aborted && controller.signal.reason === "why", "the first reason counts");
    },
  },
];
