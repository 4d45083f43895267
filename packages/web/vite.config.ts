import tailwind from "@tailwindcss/vite";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

const hub = process.env.GFE_DEV_HUB ?? "http://127.0.0.1:8080";

export default defineConfig({
  plugins: [react(), tailwind()],
  build: { target: "es2022", modulePreload: { polyfill: false } },
  server: {
    proxy: Object.fromEntries(
      ["/api", "/v1", "/docs", "/openapi.json"].map((path) => [path, { target: hub }]),
    ),
  },
});
