"""Examples to run and to copy from; nothing in tmax imports them."""
