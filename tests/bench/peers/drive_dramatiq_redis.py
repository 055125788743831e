"""Dramatiq on Redis, which here keeps nothing on disk: a yardstick, not a durable queue."""

from dramatiq.brokers.redis import RedisBroker
from on_dramatiq import OnDramatiq
from protocol import main


class DramatiqRedis(OnDramatiq):
    def make_broker(self):
        return RedisBroker(url=self.dsn)


if __name__ == "__main__":
    main(DramatiqRedis)
