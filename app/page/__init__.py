"""Parts of the page that only the page uses: examples, and what can be taken home."""
