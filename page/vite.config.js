// Builds into the Python package that serves the files; `npm run dev` asks a running service.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { defineConfig } from "vite";

const out = join(import.meta.dirname, "../promcompat/page");
const service = process.env.PROMCOMPAT_URL ?? "http://127.0.0.1:9201";

/** Beside each asset a compressed one, which the service sends to who accepts gzip. */
const compressed = {
  name: "compressed",
  closeBundle() {
    const folder = join(out, "assets");
    for (const name of readdirSync(folder)) {
      if (/\.(js|css|svg)$/.test(name)) {
        const path = join(folder, name);
        writeFileSync(`${path}.gz`, gzipSync(readFileSync(path), { level: 9 }));
      }
    }
  },
};

/** What the service writes into the HTML file: the development server has an open service. */
const asServed = {
  name: "as-served",
  apply: "serve",
  transformIndexHtml: (html) =>
    html.replace("__ACCESS__", "off").replace("__TENANCY__", "single").replace("__ROOT__", "."),
};

export default defineConfig({
  // Relative, as the page may be below a path of a proxy.
  base: "./",
  html: { cspNonce: "__CSP_NONCE__" },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  plugins: [compressed, asServed],
  build: {
    outDir: out,
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false },
    // Data URLs would need an exception in the Content-Security-Policy.
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 700,
  },
  server: {
    host: "127.0.0.1",
    proxy: { "/api": service, "/-/": service, "/metrics": { target: service, bypass: noPage } },
  },
});

/** The page has addresses that begin as a path of the service does. */
function noPage(request) {
  return request.url.startsWith("/metrics-explorer") ? request.url : undefined;
}
