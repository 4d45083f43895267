/** A part of its own in the bundle, which the native host runs first: the others use these names as they load. */
import { installGlobals } from "./globals.ts";
import type { Native } from "./native.ts";

export const native = (globalThis as unknown as { gfeNative: Native }).gfeNative;
installGlobals(native);
