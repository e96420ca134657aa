"""A live window for ``render_mode="human"``; pygame is imported only when a window is made."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Window:
    """A live window that shows one image after the other.

    Args:
        title: title of the window.
        frames_per_second: upper limit on the rate of images.

    Raises:
        ImportError: pygame is not installed.
    """

    def __init__(self, title: str, frames_per_second: float) -> None:
        try:
            import pygame
        except ImportError as error:
            raise ImportError(
                "render_mode 'human' needs pygame; install it with: pip install 'routing-env[render]'"
            ) from error
        self._pygame = pygame
        self._title = title
        self._frames_per_second = frames_per_second
        self._screen: Any = None
        self._clock = pygame.time.Clock()

    def show(self, image: NDArray[np.uint8]) -> None:
        """Show uint8 [height, width, 3]; the first image opens the window."""
        pygame = self._pygame
        if self._screen is None:
            pygame.display.init()
            self._screen = pygame.display.set_mode((image.shape[1], image.shape[0]))
            pygame.display.set_caption(self._title)
        self._screen.blit(pygame.surfarray.make_surface(image.swapaxes(0, 1)), (0, 0))
        pygame.event.pump()
        pygame.display.flip()
        self._clock.tick(self._frames_per_second)

    def close(self) -> None:
        """Close the window if it is open."""
        if self._screen is not None:
            self._pygame.display.quit()
            self._screen = None
