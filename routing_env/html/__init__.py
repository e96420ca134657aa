"""Reports as one HTML file: the page, its charts, and the replay of a training."""
