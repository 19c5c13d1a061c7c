"""asyncio's boards, and what is on them; the blocking ones are generated from these."""
