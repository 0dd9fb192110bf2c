// Runs bytecode.py in pyodide, which is CPython in WebAssembly and makes the same bytecode.
// node bytecode.mjs PYODIDE SCRIPT VERSION FOLDER KEPT TERSE…
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [pyodide, script, version, folder, ...rest] = process.argv.slice(2);
const { loadPyodide } = await import(pathToFileURL(`${pyodide}/pyodide.mjs`));
const python = await loadPyodide({ env: { PYTHONHASHSEED: "0", PYTHONWARNINGS: "ignore" } });
python.mountNodeFS("/layer", folder);
python.globals.set("arguments", python.toPy([script, version, "/layer", ...rest]));
python.runPython("import sys; sys.argv = arguments");
python.runPython(readFileSync(script, "utf8"));
