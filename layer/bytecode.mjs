// Runs bytecode.py in pyodide: CPython compiled to WebAssembly, whose bytecode is any CPython's.
// node bytecode.mjs PYODIDE SCRIPT VERSION FOLDER KEPT
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [pyodide, script, version, folder, kept] = process.argv.slice(2);
const { loadPyodide } = await import(pathToFileURL(`${pyodide}/pyodide.mjs`));
const python = await loadPyodide({
  env: { PYTHONHASHSEED: "0", PYTHONWARNINGS: "ignore" },
  args: [version, "/layer", kept],
});
python.mountNodeFS("/layer", folder);
python.runPython(`import sys; sys.argv = ["bytecode.py", "${version}", "/layer", "${kept}"]`);
python.runPython(readFileSync(script, "utf8"));
