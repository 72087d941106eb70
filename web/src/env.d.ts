interface ImportMetaEnv {
  /** HQ's address where Vite serves the page in its place, else empty. */
  readonly VITE_HQ_URL: string;
}
