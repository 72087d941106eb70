import { QueryClientProvider } from "@tanstack/react-query";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { BrowserRouter } from "react-router";
import "./app.css";
import "./app/diagnostics";
import { App } from "./app/App";
import { queryClient } from "./app/directory";
import { followVisibleHeight } from "./app/visibleHeight";
import { takeLoginToken } from "./features/login/loginToken";
import { ErrorBoundary } from "./ui/ErrorBoundary";

const loginToken = takeLoginToken();
followVisibleHeight();

const root = document.getElementById("root");
if (!root) throw new Error("index.html has no #root");
createRoot(root).render(
  <StrictMode>
    <QueryClientProvider client={queryClient}>
      <BrowserRouter>
        <ErrorBoundary what="This page">
          <App loginToken={loginToken} />
        </ErrorBoundary>
      </BrowserRouter>
    </QueryClientProvider>
  </StrictMode>,
);
