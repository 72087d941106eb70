import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, gzipSync } from "node:zlib";
import tailwindcss from "@tailwindcss/vite";
import react from "@vitejs/plugin-react";
import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";

const hqUrl = process.env.HQ_HTTP_URL ?? "http://127.0.0.1:8080";

// `changeOrigin: false` keeps Host and Origin equal, which is what HQ's Origin check compares.
const toHq = { target: hqUrl, changeOrigin: false };

/** Puts a .br and a .gz beside every text file: HQ serves what is there and compresses nothing itself. */
function compressed(): Plugin {
  return {
    name: "compressed",
    // Not before: Vite still changes chunks while the bundle is generated.
    writeBundle({ dir = "" }, bundle) {
      for (const [fileName, file] of Object.entries(bundle)) {
        if (!/\.(js|css|svg)$/.test(fileName)) continue;
        const source = Buffer.from(file.type === "chunk" ? file.code : file.source);
        writeFileSync(join(dir, `${fileName}.br`), brotliCompressSync(source));
        writeFileSync(join(dir, `${fileName}.gz`), gzipSync(source));
      }
    },
  };
}

export default defineConfig(({ command }) => ({
  plugins: [react(), tailwindcss(), compressed()],
  // A page that Vite serves is not at HQ's address; the command that connects a runner needs HQ's own.
  define: { "import.meta.env.VITE_HQ_URL": JSON.stringify(command === "serve" ? hqUrl : "") },
  server: {
    port: 5173,
    strictPort: true,
    proxy: {
      "/api": toHq,
      "/ws": { ...toHq, ws: true },
      "/health": toHq,
      "/metrics": toHq,
      "/openapi.json": toHq,
    },
  },
  build: {
    outDir: fileURLToPath(new URL("../agentrelay/hq/ui", import.meta.url)),
    emptyOutDir: true,
    target: "es2022",
    // A data: URL would need a hole in the content security policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // xterm.js is that large, and loaded only once there is a terminal.
    chunkSizeWarningLimit: 600,
  },
  test: {
    environment: "node",
    include: ["src/**/*.test.ts", "test/**/*.test.ts"],
  },
}));
