import { encode } from "uqr";
import { describe, expect, it } from "vitest";
import { qrLines } from "./qr.ts";

const LINK = "https://hub.example.org/device?user_code=ABCD-EFGH";

describe("a QR code in a terminal", () => {
  it("has every module of the code, two rows a line", () => {
    const lines = qrLines(LINK, { columns: 80, colour: false })!;
    const light = lines.flatMap((line) => [
      [...line].map((block) => block === "█" || block === "▀"),
      [...line].map((block) => block === "█" || block === "▄"),
    ]);
    const { data, size } = encode(LINK, { ecc: "L", border: 2 });
    expect(light.slice(0, size).map((row) => row.map((isLight) => !isLight))).toEqual(data);
    expect(lines.length).toBeLessThanOrEqual(19); // beside the address and the code it fits 24 rows
  });

  it("names its colours where there are colours, so that a light theme does not invert it", () => {
    expect(qrLines(LINK, { columns: 80, colour: true })![0]).toMatch(/97;40m█+/);
  });

  it("is left out where it has no room", () => {
    expect(qrLines(LINK, { columns: 30, colour: false })).toBeNull();
  });
});
