"""Reading ahead: the next blocks come while kernels work on this one."""

import queue
import threading


def read_ahead(blocks, depth=2):
    """Yield blocks that a thread of their own reads.

    The thread ends with the iteration, also if that is left early or by an exception;
    at most one more block is read then.

    Parameters
    ----------
    blocks : iterable
    depth : int, default=2
        Blocks that may have been read and not yet been asked for.

    Yields
    ------
    block
        In order. An exception of `blocks` is raised after the last one before it.

    Examples
    --------
    >>> list(read_ahead(iter("abc")))
    ['a', 'b', 'c']
    """
    room, ready = threading.Semaphore(depth), queue.SimpleQueue()
    left = threading.Event()

    def read():
        iterator = None
        try:
            iterator = iter(blocks)
            while True:
                room.acquire()
                if left.is_set():
                    break
                ready.put((next(iterator), None))
        except BaseException as error:
            # StopIteration too: it tells that there are no more.
            ready.put((None, error))
        finally:
            if hasattr(iterator, "close"):
                iterator.close()

    thread = threading.Thread(target=read, name="fastem-read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            block, error = ready.get()
            room.release()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield block
    finally:
        left.set()
        room.release()
        thread.join()
