// Runs the unit tests beside the sources (`*.test.js`) by Node's own runner; Vite reads the TypeScript.
import { readdirSync } from "node:fs";
import { createServer } from "vite";

const server = await createServer({
  root: import.meta.dirname,
  configFile: false,
  logLevel: "error",
  server: { middlewareMode: true, watch: null, ws: false },
  optimizeDeps: { noDiscovery: true },
  appType: "custom",
});

const files = readdirSync(`${import.meta.dirname}/src`, { recursive: true }).filter((name) => name.endsWith(".test.js"));
for (const file of files.toSorted()) await server.ssrLoadModule(`/src/${file}`);
await server.close();
