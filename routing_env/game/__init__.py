"""The routing game: blocks, network, rewards, training, and the game itself."""
