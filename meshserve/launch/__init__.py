"""Processes: starting, placing, finding and ending them on Ray, and what is stored beside them."""
