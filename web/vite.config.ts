import { fileURLToPath } from "node:url";
import tailwindcss from "@tailwindcss/vite";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

const hqUrl = process.env.HQ_HTTP_URL ?? "http://127.0.0.1:8080";

// `changeOrigin: false` keeps Host and Origin equal, which is what HQ's Origin check compares.
const toHq = { target: hqUrl, changeOrigin: false };

export default defineConfig(({ command }) => ({
  plugins: [react(), tailwindcss()],
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
  },
  test: {
    environment: "node",
    include: ["src/**/*.test.ts", "test/**/*.test.ts"],
  },
}));
