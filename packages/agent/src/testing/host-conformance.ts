/**
 * What every host must do, as cases against the Host interface alone. Node's runs them in a test; the native one runs the
 * same cases, bundled, inside itself. `conformance-server.ts` is the other side.
 */
import type { ConformanceCase } from "./conformance/case.ts";
import { fileCases } from "./conformance/files.ts";
import { httpCases } from "./conformance/http.ts";
import { languageCases } from "./conformance/language.ts";
import { localCases } from "./conformance/local.ts";
import { machineCases } from "./conformance/machine.ts";
import { socketCases } from "./conformance/sockets.ts";

export type { ConformanceCase, Ground } from "./conformance/case.ts";

export const conformanceCases: readonly ConformanceCase[] = [
  ...httpCases,
  ...socketCases,
  ...fileCases,
  ...localCases,
  ...machineCases,
  ...languageCases,
];
