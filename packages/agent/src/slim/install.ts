/** Must be the first import of the slim program: the modules behind it use these names as they load. */
import { installGlobals } from "./globals.ts";
import type { Native } from "./native.ts";

export const native = (globalThis as unknown as { gfeNative: Native }).gfeNative;
installGlobals(native);
