import tailwind from "@tailwindcss/vite";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

const hub = process.env.GFE_DEV_HUB ?? "http://127.0.0.1:8080";
const OF_THE_HUB = ["/api", "/v1", "/agent", "/docs", "/openapi.json"];

export default defineConfig({
  root: import.meta.dirname,
  plugins: [react(), tailwind()],
  // No data: addresses for scripts or fonts: the hub's content security policy allows its own files only.
  build: { outDir: "dist", target: "es2022", modulePreload: { polyfill: false }, assetsInlineLimit: 0 },
  server: {
    proxy: Object.fromEntries(OF_THE_HUB.map((path) => [path, { target: hub, ws: path === "/agent" }])),
  },
});
