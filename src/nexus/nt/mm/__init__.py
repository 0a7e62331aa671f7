"""Memory: address spaces by NT's rules (`vad`, `memory`), sections that can be mapped (`section`), and PE
images (`image`).
"""
