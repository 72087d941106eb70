/** Where HQ is: this page's own address, unless a development server shows the page. */
export const hqUrl: string = import.meta.env.VITE_HQ_URL || location.origin;
