"""Processes and threads: how they start (`start`, `start_thread`, `spawn`), what they are (`process`,
`thread`, `job`), what they tell, and what becomes of their exceptions.
"""
