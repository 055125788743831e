"""The tests by what they need.

unit: pure words. integration: one real Postgres. contract: real peers. acceptance: whole processes. bench: figures.
"""
